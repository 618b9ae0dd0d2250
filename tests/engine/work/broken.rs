//! Handlers that panic, never return, or answer too much: the task fails by name, and the process goes on.
use super::*;

/// An output of about so many bytes.
fn large(bytes: usize) -> Value {
    json!("x".repeat(bytes))
}

async fn ended(shop: &Workshop, script: Script, limits: Limits) -> (Vec<String>, Process) {
    let worker = shop.worker(script);
    let task = shop.submit(shop.agent(limits).await, |task| task.max_attempts = limits.max_attempts).await;
    shop.in_phase(task, |phase| matches!(phase, Phase::Failed | Phase::Final)).await;
    (shop.story(task).await, worker)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_fails_its_own_task_and_the_next_one_is_done() {
    let shop = Workshop::open().await;
    let script = script(|run| {
        assert!(run.assignment.input != json!("panic"), "the test asked for it");
        Box::pin(async { Ok(json!("done")) })
    });
    let _worker = shop.worker(script);
    let agent = shop.agent(Limits { max_concurrency: 1, ..hasty() }).await;
    let bad = shop.submit(agent, |task| (task.input, task.max_attempts) = (json!("panic"), 2)).await;
    let good = shop.submit(agent, |_| {}).await;
    shop.in_phase(bad, |phase| phase == Phase::Failed).await;
    shop.in_phase(good, |phase| phase == Phase::Final).await;
    let expected =
        ["submitted", "started", "retry_scheduled: agent_crashed", "started", "dead_lettered: agent_crashed"];
    assert_eq!(shop.story(bad).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_never_returns_runs_into_the_agents_limit() {
    let shop = Workshop::open().await;
    let endless = script(|_| Box::pin(std::future::pending()));
    let (story, process) = ended(&shop, endless, Limits { timeout_ms: 50, ..hasty() }).await;
    let expected = ["submitted", "started", "retry_scheduled: timeout", "started", "dead_lettered: timeout"];
    assert_eq!(story, expected);
    process.worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_or_a_step_of_two_megabytes_fails_the_task_at_once() {
    let output = script(|_| Box::pin(async { Ok(large(2_000_000)) }));
    let step = script(|run| {
        Box::pin(async move {
            run.record("tool", "look_up", large(2_000_000), Vec::new()).await?;
            Ok(json!("not reached"))
        })
    });
    for script in [output, step] {
        let (story, _worker) = ended(&Workshop::open().await, script, hasty()).await;
        assert_eq!(story, ["submitted", "started", "failed: result_too_large"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_of_steps_ends_at_the_thousandth() {
    let shop = Workshop::open().await;
    let steps = script(|run| {
        Box::pin(async move {
            loop {
                run.record("tool", "again", json!(run.next_step()), Vec::new()).await?;
            }
        })
    });
    let (story, _worker) = ended(&shop, steps, hasty()).await;
    assert_eq!((story.len(), story.last().unwrap().as_str()), (1_003, "failed: too_many_steps"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_are_refused_with_the_end_leave_no_task_without_one() {
    let shop = Workshop::open().await;
    let steps = script(|run| {
        Box::pin(async move {
            for step in 1..=1_001 {
                run.record_with_next("tool", "again", json!(step))?;
            }
            Ok(json!("too late"))
        })
    });
    let (story, _worker) = ended(&shop, steps, hasty()).await;
    assert_eq!(story, ["submitted", "started", "failed: too_many_steps"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_an_unknown_agent_or_kind_runs_nothing_and_holds_up_nobody() {
    let shop = Workshop::open().await;
    let _worker = shop.worker(script(|_| Box::pin(async { Ok(json!("done")) })));
    let strange = Uuid::now_v7();
    let create = AgentCommand::Create {
        name: Name::parse("from the future").unwrap(),
        description: String::new(),
        kind: "seer".into(),
        config: json!({}).into(),
        limits: hasty(),
    };
    shop.stack.send(strange, create).await;
    let mut waiting = Vec::new();
    for agent in [Uuid::now_v7(), strange] {
        waiting.push(shop.submit(agent, |task| task.priority = 9).await);
    }
    let good = shop.submit(shop.agent(hasty()).await, |_| {}).await;
    shop.in_phase(good, |phase| phase == Phase::Final).await;
    for task in waiting {
        assert_eq!(shop.story(task).await, ["submitted"]);
        shop.send(task, TaskCommand::Cancel { reason: marvin_domain::task::CancelReason::Requested }).await;
    }
}
