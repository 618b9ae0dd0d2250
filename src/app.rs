//! The composition root of a server: what it does beyond any node, and the loops of that.
use actix_web::web;
use chrono::Utc;
use marvin_domain::{
    Actor, Name,
    instance::{self, Instance},
    process,
    user::Role,
};
use std::{collections::BTreeSet, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::{
    accounts::{AccountError, Accounts, NewUser},
    agent::{deadline::Deadlines, worker::Worker},
    config::Settings,
    control,
    dispatch::CommandMeta,
    duty::holder::Holder,
    erasure::Eraser,
    health::Health,
    http::api::Api,
    node::{self, Node},
    process::Process,
    schedule::{Firing, Scheduler},
    security::{
        passwords::{Passwords, check_policy},
        sessions::Sessions,
        throttle::SignInThrottle,
    },
    setup::SetupTokens,
    stores::{StartError, Stores},
    views::{
        admin::{Projections, Standing},
        keeper::{Keeper, Parts},
        projector::Ground,
    },
};

/// Expired sessions are removed, and gauges are set, this often.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);
/// Everything that runs in this process, until it is dropped or stopped.
pub struct App {
    pub api: web::Data<Api>,
    pub health: Health,
    worker: Arc<Worker>,
    holder: Arc<Holder>,
    node: Node,
}

impl App {
    /// Opens the stores and starts every loop. `origin` is how people reach the server.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(settings: &Settings, bound: SocketAddr) -> Result<Self, StartError> {
        let public_url = settings.public_origin(bound).to_string();
        let mut node = Node::start(Stores::open(settings).await?, settings, public_url.clone())?;
        let holder = Holder::new(node.stores.duties.clone());
        let projections = keep_views(&mut node, &holder, &settings.data_dir);
        node.keep(holder.clone().run());
        node.first_look().await;
        for manager in process::all() {
            let checkpoints = node.stores.checkpoints.clone();
            node.follow(Process::new(manager, node.dispatcher.clone(), node.views.clone(), checkpoints));
        }
        let (eraser, scrubber) = Eraser::new(node.stores.subjects.clone());
        node.follow(eraser);
        node.keep(scrubber.run(node.health.clone()));
        let secrets = node.secrets.clone();
        node.keep(async move { secrets.tidy_all().await });
        let worker = node.work();
        let (relay, tail, health) = (node.relay(), node.tail.clone(), node.health.clone());
        match settings.amqp_url {
            None => node.keep(relay.run_within(tail, health)),
            Some(_) => node.keep(relay.run_shared(tail, holder.clone(), node.stores.checkpoints.clone(), health)),
        }
        let firing = firing(&node);
        let scheduler = Scheduler { firing: firing.clone() };
        node.keep(scheduler.run(holder.clone(), node.tail.clone(), node.health.clone()));
        node.keep(deadlines(&node).run(holder.clone(), node.health.clone()));
        let api = api(&node, projections, firing, public_url);
        node.keep(keep_house(api.clone(), worker.clone()));
        Ok(Self { api, health: node.health.clone(), worker, holder, node })
    }

    /// With no user yet: creates the administrator that the settings name, else answers a one-time setup link.
    ///
    /// # Errors
    /// `Administrator` when the named one is refused.
    pub async fn welcome(&self, settings: &Settings) -> Result<Option<String>, StartError> {
        let loaded = self.api.dispatcher.load(instance::STREAM).await?;
        if <&Instance>::try_from(&loaded.state).is_ok_and(Instance::is_set_up) {
            return Ok(None);
        }
        let Some(first) = &settings.first_admin else {
            let token = self.api.setup.issue(Utc::now().timestamp_millis());
            return Ok(Some(format!("{}/setup?token={token}", self.api.public_url)));
        };
        let refused = |reason: String| StartError::Administrator(reason);
        check_policy(&first.password).map_err(|error| refused(format!("MARVIN_ADMIN_PASSWORD {}", error.detail)))?;
        let new = NewUser {
            email: first.email.clone(),
            display_name: Name::parse("Administrator").map_err(|error| refused(error.to_string()))?,
            password: first.password.clone(),
            roles: BTreeSet::from([Role::Admin]),
        };
        let created = self.api.accounts.set_up(&CommandMeta::new(Actor::System), new).await;
        created.map_err(|error: AccountError| refused(error.to_string()))?;
        info!("the first administrator was created from MARVIN_ADMIN_EMAIL");
        Ok(None)
    }

    /// Takes no new task and lets those that run end, at most `patience`. A comparison of the views is given up.
    pub async fn drain(&self, patience: Duration) {
        tokio::join!(self.node.stores.doctor.stop(), node::drain(&self.worker, patience));
    }

    /// Stops every loop and leaves each database whole in its one file. What the loops had not finished is found at the next
    /// start. Call it last, when no request runs any more.
    pub async fn close(mut self) {
        self.node.stop().await;
        self.holder.release_all().await;
        self.node.stores.close().await;
    }
}

/// Keeps every view, and answers what administrators ask of them.
fn keep_views(node: &mut Node, holder: &Arc<Holder>, data_dir: &Path) -> Arc<Projections> {
    let (folds, poke) = (marvin_projections::all(), Arc::new(Notify::new()));
    let Stores { views, duties, .. } = &node.stores;
    let (dispatcher, tail) = (node.dispatcher.clone(), node.tail.clone());
    let projections = Projections::new(views.clone(), duties.clone(), dispatcher, &folds, tail, poke.clone());
    let projections = Arc::new(projections);
    let hands = control::Hands::of(&node.stores, projections.clone());
    node.keep(control::listen(data_dir, hands));
    let parts = Parts {
        ground: Ground {
            store: node.stores.views.clone(),
            documents: node.documents.clone(),
            board: node.board.clone(),
            head: node.tail.head(),
        },
        tail: node.tail.clone(),
        dispatcher: node.dispatcher.clone(),
        cache: node.cache.clone(),
        holder: holder.clone(),
        health: node.health.clone(),
        poke,
    };
    folds.into_iter().for_each(|fold| node.keep(Keeper::new(fold, parts.clone()).run()));
    projections
}

/// What fires schedules, by the program's clock.
fn firing(node: &Node) -> Firing {
    Firing {
        dispatcher: node.dispatcher.clone(),
        views: node.views.clone(),
        kinds: node.kinds.clone(),
        log: node.stores.log.clone(),
        codec: node.stores.codec.clone(),
        clock: Arc::new(Utc::now),
    }
}

/// What ends tasks that wait too long, by the program's clock.
fn deadlines(node: &Node) -> Deadlines {
    Deadlines {
        dispatcher: node.dispatcher.clone(),
        views: node.views.clone(),
        log: node.stores.log.clone(),
        clock: Arc::new(Utc::now),
    }
}

fn api(node: &Node, projections: Arc<Projections>, firing: Firing, public_url: String) -> web::Data<Api> {
    let passwords = Passwords::default();
    let Stores { subjects, log, codec, incarnation, .. } = &node.stores;
    web::Data::new(Api {
        source: node.source(),
        incarnation: *incarnation,
        public_url,
        accounts: Accounts::new(node.dispatcher.clone(), subjects.clone(), passwords.clone()),
        sessions: Sessions::new(subjects.clone()),
        subjects: subjects.clone(),
        throttle: SignInThrottle::default(),
        setup: SetupTokens::default(),
        secrets: node.secrets.clone(),
        callbacks: node.callbacks.clone(),
        dispatcher: node.dispatcher.clone(),
        views: node.views.clone(),
        projections,
        tail: node.tail.clone(),
        log: log.clone(),
        codec: codec.clone(),
        kinds: node.kinds.clone(),
        leases: node.leases(),
        channels: node.keys.clone(),
        firing,
        passwords,
    })
}

async fn keep_house(api: web::Data<Api>, worker: Arc<Worker>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    loop {
        tick.tick().await;
        if let Err(error) = api.sessions.purge(Utc::now().timestamp_millis()).await {
            warn!(error = %error, "expired sessions could not be removed");
        }
        let head = api.tail.log_end();
        metrics::gauge!("marvin_log_position").set(head as f64);
        metrics::gauge!("marvin_tasks_running").set(worker.running_count() as f64);
        for (projection, position) in api.views.all_reached() {
            metrics::gauge!("marvin_projection_lag_events", "projection" => projection)
                .set(head.saturating_sub(position) as f64);
        }
        match api.projections.all().await {
            Ok(standings) => standings.into_iter().for_each(measure),
            Err(error) => warn!(error = %error, "the state of the projections is unknown"),
        }
    }
}

/// Positions of 0 say that nothing is being rebuilt; a rate or a time that is not known is no number.
fn measure(standing: Standing) {
    let Standing { name, stopped, rebuild, .. } = standing;
    let (position, target) = rebuild.as_ref().map_or((0, 0), |rebuild| (rebuild.position, rebuild.target));
    let rate = rebuild.as_ref().and_then(|rebuild| rebuild.events_per_s);
    let left = rebuild.and_then(|rebuild| rebuild.seconds_left).map(|seconds| seconds as f64);
    for (metric, value) in [
        ("marvin_projection_rebuild_position", position as f64),
        ("marvin_projection_rebuild_target", target as f64),
        ("marvin_projection_rebuild_events_per_second", rate.unwrap_or(f64::NAN)),
        ("marvin_projection_rebuild_seconds_left", left.unwrap_or(f64::NAN)),
        ("marvin_projection_stopped", f64::from(stopped.is_some())),
    ] {
        metrics::gauge!(metric, "projection" => name.clone()).set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::admin::{Condition, Rebuild};
    use metrics_exporter_prometheus::PrometheusBuilder;

    /// What Prometheus is told of a projection.
    fn told(rebuild: Option<Rebuild>) -> Vec<String> {
        let standing = Standing {
            name: "tasks".into(),
            version: 1,
            serving_version: Some(1),
            build: Some(1),
            position: 9,
            lag: 0,
            state: Condition::Live,
            holder: None,
            stopped: None,
            rebuild,
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || measure(standing));
        let told = recorder.handle().render();
        let mut lines: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("marvin_projection_")).collect();
        lines.sort_unstable();
        lines.into_iter().map(|line| line.replace(r#"{projection="tasks"}"#, "")).collect()
    }

    #[test]
    fn prometheus_is_told_how_a_rebuild_comes_along() {
        let rebuild =
            Rebuild { build: 2, position: 5, target: 9, events_per_s: Some(0.5), seconds_left: Some(8), stopped: None };
        let expected = [
            "rebuild_events_per_second 0.5",
            "rebuild_position 5",
            "rebuild_seconds_left 8",
            "rebuild_target 9",
            "stopped 0",
        ];
        assert_eq!(told(Some(rebuild)), expected);
    }

    #[test]
    fn prometheus_is_told_of_no_rate_where_none_is_known() {
        let expected = [
            "rebuild_events_per_second NaN",
            "rebuild_position 0",
            "rebuild_seconds_left NaN",
            "rebuild_target 0",
            "stopped 0",
        ];
        assert_eq!(told(None), expected);
    }
}
