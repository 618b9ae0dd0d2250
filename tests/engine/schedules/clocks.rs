//! Clocks that go on, jump and are set back.
use super::*;

#[tokio::test]
async fn a_schedule_fires_at_its_instants_and_at_no_other_time() {
    let house = House::build().await;
    let (node, id) = (house.node(), house.schedule(every_minute(), Overlap::Allow, Missed::One).await);
    for second in [0, 30, 59] {
        house.set_clock(noon(second));
        assert_eq!(node.advance(id).await, None);
    }
    for second in [60, 61, 119, 120, 120] {
        house.set_clock(noon(second));
        node.advance(id).await;
    }
    assert_eq!(house.fired(id).await, [submitted(60), submitted(120)]);
    assert_eq!(house.tasks().await.len(), 2);
}

#[tokio::test]
async fn a_clock_that_is_set_back_fires_nothing_again_and_goes_on_where_it_was() {
    let house = House::build().await;
    let id = house.schedule(every_minute(), Overlap::Allow, Missed::One).await;
    for second in [60, 120, 45, 60, 119, 120, 121, 180] {
        house.set_clock(noon(second));
        // Each time another process, which remembers nothing.
        house.node().advance(id).await;
    }
    assert_eq!(house.fired(id).await, [submitted(60), submitted(120), submitted(180)]);
    assert_eq!(house.tasks().await.len(), 3);
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_is_an_outage() {
    let house = House::build().await;
    let id = house.schedule(every_minute(), Overlap::Allow, Missed::One).await;
    house.set_clock(noon(3_610));
    house.node().advance(id).await;
    house.set_clock(noon(3_660));
    house.node().advance(id).await;
    assert_eq!(house.fired(id).await, [submitted(3_600), submitted(3_660)]);
}

#[tokio::test]
async fn a_firing_waits_for_its_jitter_which_is_the_same_on_every_node() {
    let house = House::build().await;
    let policies = Policies { jitter_s: 600, overlap: Overlap::Allow, missed: Missed::One };
    let id = house.schedule_with(every_minute(), policies).await;
    let due = marvin_domain::schedule::due_at(id, noon(60), 600);
    house.set_clock(due - Duration::milliseconds(1));
    assert_eq!(house.node().advance(id).await, None);
    house.set_clock(due);
    house.node().advance(id).await;
    assert_eq!(house.fired(id).await[0], submitted(60));
}

#[tokio::test]
async fn a_moment_fires_once_and_the_schedule_has_ended() {
    let house = House::build().await;
    let moment = Timing { when: When::At(noon(90)), timezone: "UTC".into() };
    let (node, id) = (house.node(), house.schedule(moment, Overlap::Skip, Missed::Skip).await);
    for second in [89, 90, 91, 10_000] {
        house.set_clock(noon(second));
        node.advance(id).await;
    }
    assert_eq!(house.fired(id).await, [submitted(90)]);
}
