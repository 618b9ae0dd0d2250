//! A skipped event is recorded once, with the reason in the words, and under the key, of the administrator who gave it.
use crate::stack::Stack;
use marvin::cloudevent::event_type;
use marvin::http::cloudevents::Selection;
use marvin_domain::{
    Event, Personal,
    projection::{self, ProjectionCommand, ProjectionEvent, ProjectionSkipped, Reason},
    user::Role,
};
use uuid::Uuid;

fn reason() -> Reason {
    Reason { reason: "It was written by hand".into() }
}

fn skip(position: u64, administrator: Uuid) -> ProjectionCommand {
    ProjectionCommand::Skip { name: "tasks".into(), version: 3, position, administrator, reason: reason() }
}

#[tokio::test]
async fn each_reason_is_kept_under_the_key_of_the_administrator_who_gave_it() {
    let stack = Stack::new().await;
    let ada = stack.user("a@example.com", &[Role::Admin]).await;
    let bob = stack.user("b@example.com", &[Role::Admin]).await;
    let stream = projection::stream("tasks", 3);
    for (position, administrator) in [(7, ada), (8, bob), (8, ada), (7, bob)] {
        stack.send(stream.id, skip(position, administrator)).await;
    }
    let events: Vec<_> = stack.events().await.into_iter().filter(|event| event.stream == stream).collect();
    let expected = [(7, ada), (8, bob)].map(|(position, administrator)| {
        let (name, personal) = ("tasks".into(), Personal::Known(reason()));
        let skipped = ProjectionSkipped { name, version: 3, position, administrator, personal };
        (Some(administrator), Event::Projection(ProjectionEvent::from(skipped)))
    });
    let recorded = events.iter().map(|event| (event.metadata.subject, event.event.clone()));
    assert_eq!(recorded.collect::<Vec<_>>(), expected);
    let selection = Selection::parse(Some("projection.skipped"), Some(&stream.to_string())).unwrap();
    for event in stack.events().await {
        assert_eq!(selection.takes(&event), event_type(&event) == "marvin.projection.skipped.v1");
    }
}
