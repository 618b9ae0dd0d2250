//! The queue of a worker agent: it says that there may be work, at each moment at which there may be, and nothing of what it is.
use super::{
    super::{
        leases::{lapse, lease, worker_agent},
        support::DEADLINE,
    },
    *,
};

/// What was said so far is acknowledged.
struct Hints {
    consumer: Box<dyn Consumer>,
    keys: Value,
}

impl Hints {
    /// Those of an agent whose creation was told.
    async fn of(scene: &Scene, reader: &Client, agent: &str) -> Self {
        let keys = reader.get(&format!("/api/v1/channels/agent.{agent}/keys")).await.expect(200).json();
        let consumer = scene.stranger.consume(&scene.hints(agent), 100).await.unwrap();
        let mut hints = Self { consumer, keys };
        assert_eq!(hints.next().await, json!({ "agent": agent, "task": null, "ready_at": null }));
        hints
    }

    async fn message(&mut self) -> Message {
        let delivery = tokio::time::timeout(DEADLINE, self.consumer.next()).await.expect("a hint comes").unwrap();
        let message = delivery.message.clone();
        delivery.acknowledge().await;
        message
    }

    async fn next(&mut self) -> Value {
        let message = self.message().await;
        open(&self.keys, &message).unwrap()
    }
}

#[tokio::test]
async fn a_hint_is_sealed_and_says_that_there_is_work_and_nothing_that_anybody_wrote() {
    const PLANTED: &str = "planted 91d0";
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({})).await;
    let mut hints = Hints::of(&scene, &admin, &agent).await;
    let task = admin.submit(&agent, json!({ "text": PLANTED })).await.id();
    let message = hints.message().await;
    let said = open(&hints.keys, &message).unwrap();
    assert_eq!(said, json!({ "agent": agent, "task": task, "ready_at": null }));
    let headers = headers(&message);
    assert_eq!(headers.keys().collect::<Vec<_>>(), [&"marvin-key"]);
    assert!(headers["marvin-key"].starts_with(&format!("agent.{agent}/")));
    let body = String::from_utf8_lossy(&message.body);
    assert!(!body.contains(&task) && !body.contains(&agent), "the body is sealed");
    let other = worker_agent(&admin, json!({})).await;
    let others = Hints::of(&scene, &admin, &other).await.keys;
    let mut renamed = others.clone();
    renamed["keys"][0]["id"] = json!(headers["marvin-key"]);
    open(&renamed, &message).expect_err("another agent's keys do not open it");
}

#[tokio::test]
async fn each_moment_at_which_a_worker_may_have_something_to_do_is_told() {
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({ "backoff_initial_ms": 1, "max_attempts": 2 })).await;
    let mut hints = Hints::of(&scene, &admin, &agent).await;
    let now = |task: &str| json!({ "agent": agent, "task": task, "ready_at": null });
    let task = admin.submit(&agent, json!(1)).await.id();
    assert_eq!(hints.next().await, now(&task), "it was submitted");
    let fail = async |retry: bool| {
        let (task, lease) = lease(&admin, &agent, 1, 30).await.remove(0);
        let body = json!({ "lease": lease, "code": "no_luck", "message": "It rains", "retry": retry });
        admin.post(&format!("/api/v1/tasks/{task}/fail"), &body).await.expect(200);
    };
    fail(true).await;
    let scheduled = of_type(&admin, "task.retry_scheduled").await;
    let said = hints.next().await;
    let due =
        |time: &Value| chrono::DateTime::parse_from_rfc3339(time.as_str().expect("a time")).unwrap().timestamp_millis();
    assert_eq!(
        (&said["task"], due(&said["ready_at"])),
        (&json!(task), due(&scheduled[0]["data"]["facts"]["retry_at"]))
    );
    fail(false).await;
    admin.order(&format!("/api/v1/tasks/{task}/retry")).await.expect(200);
    assert_eq!(hints.next().await, now(&task), "somebody had it retried");
    lease(&admin, &agent, 1, 30).await;
    lapse(server.data_dir(), &task);
    assert_eq!(hints.next().await, now(&task), "its worker vanished");
    for change in ["pause", "resume"] {
        admin.order(&format!("/api/v1/agents/{agent}/{change}")).await.expect(200);
        assert_eq!(hints.next().await, json!({ "agent": agent, "task": null, "ready_at": null }), "{change}");
    }
}

#[tokio::test]
async fn the_keys_of_an_agents_queue_are_told_to_who_may_lease_its_tasks_and_each_time_is_recorded() {
    let scene = Scene::new();
    let server = scene.launch.clone().start();
    let admin = Client::admin(&server).await;
    let agent = worker_agent(&admin, json!({})).await;
    let path = format!("/api/v1/channels/agent.{agent}/keys");
    let integrator = admin.colleague("ina", &["integrator"]).await;
    let told = integrator.get(&path).await.expect(200);
    assert_eq!(told.header("cache-control"), "no-store");
    let told = told.json();
    assert_eq!((&told["channel"], told["keys"].as_array().unwrap().len()), (&json!(format!("agent.{agent}")), 169));
    let recorded = async || of_type(&admin, "channel.keys_disclosed").await;
    let disclosed = recorded().await;
    let facts = &disclosed[0]["data"]["facts"];
    assert_eq!((disclosed.len(), &facts["channel"]), (1, &told["channel"]));
    assert_eq!(facts["reader"], integrator.user_id());
    for key in told["keys"].as_array().unwrap() {
        let key = key["key"].as_str().unwrap();
        assert!(!server.log().contains(key) && !disclosed[0].to_string().contains(key));
    }
    for role in ["member", "operator", "auditor"] {
        admin.colleague(role, &[role]).await.get(&path).await.problem(403);
    }
    let ours = echo(&admin).await;
    let long = "a".repeat(4_000);
    let unknown = [
        format!("agent.{}", Uuid::now_v7()),
        format!("agent.{ours}"),
        format!("agent.{}", integrator.user_id()),
        format!("agent.{}", agent.to_uppercase()),
        format!("agent.{agent}%2F1"),
        format!("agent.{agent}%00"),
        format!("agent.agent.{agent}"),
        "agent.".into(),
        "agent.%2e%2e".into(),
        "events%00".into(),
        "work.worker".into(),
        agent.clone(),
        long,
    ];
    for name in &unknown {
        integrator.get(&format!("/api/v1/channels/{name}/keys")).await.problem(404);
    }
    assert_eq!(recorded().await.len(), 1, "what was refused was not told");
    admin.delete(&format!("/api/v1/agents/{agent}")).await.expect(200);
    integrator.get(&path).await.expect(200);
    assert_eq!(recorded().await.len(), 2, "a retired agent still gives what it had");
}
