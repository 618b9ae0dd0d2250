//! The composition root: joins the parts on the stores, and starts the loops.
use actix_web::web;
use chrono::Utc;
use marvin_domain::{
    Actor, Name,
    instance::{self, Instance},
    process,
    user::Role,
};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::Notify, task::JoinHandle};
use tracing::{info, warn};

use crate::{
    accounts::{AccountError, Accounts, NewUser},
    agent::{Kinds, worker::Worker},
    config::Settings,
    control,
    dispatch::{CommandMeta, Dispatcher, observer::Observer},
    duty::holder::Holder,
    erasure::Eraser,
    health::Health,
    http::api::Api,
    log::{
        subscription::{Follower, follow},
        tail::Tail,
    },
    process::Process,
    security::{
        passwords::{Passwords, check_policy},
        sessions::Sessions,
        throttle::SignInThrottle,
    },
    setup::SetupTokens,
    stores::{StartError, Stores},
    views::{
        ViewId,
        admin::{Projections, Standing},
        board::Board,
        documents::Documents,
        keeper::{Keeper, Parts},
        projector::Ground,
        query::Views,
    },
};

/// Expired sessions are removed, and gauges are set, this often.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);
/// How long the start waits for views: those of a new instance are there at once, and a large one is built while it serves.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(1);

/// Everything that runs in this process, until it is dropped or stopped.
pub struct App {
    pub api: web::Data<Api>,
    pub health: Health,
    worker: Arc<Worker>,
    loops: Vec<JoinHandle<()>>,
    holder: Arc<Holder>,
    stores: Stores,
}

impl App {
    /// Opens the stores and starts every loop. `origin` is how people reach the server.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(settings: &Settings, bound: SocketAddr) -> Result<Self, StartError> {
        let stores = Stores::open(settings).await?;
        let (log, codec) = (stores.log.clone(), stores.codec.clone());
        let health = Health::default();
        let tail = Tail::new(log.clone(), codec.clone());
        let dispatcher = Dispatcher::new(log.clone(), codec.clone());
        // From before anything is cached, so that nothing appended later is missed.
        let observer = Observer::new(dispatcher.clone(), *tail.head().borrow());
        let documents = Documents::new(stores.sealer.clone());
        let mut loops = vec![tokio::spawn(tail.clone().feed(health.clone()))];
        loops.push(run(&tail, observer, &health));
        let folds = marvin_projections::all();
        let board = Board::new(stores.views.clone(), folds.iter().map(|fold| ViewId::of(&**fold)), health.clone());
        let holder = Holder::new(stores.duties.clone());
        let cache = stores.cache(&health);
        let poke = Arc::new(Notify::new());
        let duties = stores.duties.clone();
        let projections =
            Projections::new(stores.views.clone(), duties, dispatcher.clone(), &folds, tail.clone(), poke.clone());
        let projections = Arc::new(projections);
        let hands = control::Hands::of(&stores, projections.clone());
        loops.push(tokio::spawn(control::listen(&settings.data_dir, hands)));
        let parts = Parts {
            ground: Ground {
                store: stores.views.clone(),
                documents: documents.clone(),
                board: board.clone(),
                head: tail.head(),
            },
            tail: tail.clone(),
            dispatcher: dispatcher.clone(),
            cache: cache.clone(),
            holder: holder.clone(),
            health: health.clone(),
            poke,
        };
        loops.push(tokio::spawn(holder.clone().run()));
        loops.push(tokio::spawn(board.clone().run(log.head())));
        loops.extend(folds.into_iter().map(|fold| tokio::spawn(Keeper::new(fold, parts.clone()).run())));
        let views = Views::new(stores.views.clone(), documents, board.clone(), cache);
        board.first_look(FIRST_LOOK_MAX).await;
        for manager in process::all() {
            let process = Process::new(manager, dispatcher.clone(), views.clone(), stores.checkpoints.clone());
            loops.push(run(&tail, process, &health));
        }
        let (eraser, scrubber) = Eraser::new(stores.subjects.clone());
        loops.push(run(&tail, eraser, &health));
        loops.push(tokio::spawn(scrubber.run(health.clone())));

        let kinds = Kinds::all(views.clone());
        let slots = stores.slots.clone();
        let worker = Worker::new(kinds.clone(), dispatcher.clone(), views.clone(), log.clone(), codec.clone(), slots);
        loops.push(tokio::spawn(worker.clone().listen(tail.clone())));
        loops.push(tokio::spawn(worker.clone().heartbeat()));
        loops.push(tokio::spawn(worker.clone().sweep()));

        let passwords = Passwords::default();
        let api = web::Data::new(Api {
            source: format!("/marvin/{}", settings.instance),
            incarnation: stores.incarnation,
            public_url: settings.public_origin(bound).to_string(),
            accounts: Accounts::new(dispatcher.clone(), stores.subjects.clone(), passwords.clone()),
            sessions: Sessions::new(stores.subjects.clone()),
            subjects: stores.subjects.clone(),
            throttle: SignInThrottle::default(),
            setup: SetupTokens::default(),
            dispatcher,
            views,
            projections,
            tail,
            log,
            codec,
            kinds,
            passwords,
        });
        loops.push(tokio::spawn(keep_house(api.clone(), worker.clone())));
        Ok(Self { api, health, worker, loops, holder, stores })
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
        let tasks = async {
            if tokio::time::timeout(patience, self.worker.drain()).await.is_err() {
                warn!("tasks were still running; they go on after the restart");
            }
        };
        tokio::join!(self.stores.doctor.stop(), tasks);
    }

    /// Stops every loop and leaves each database whole in its one file. What the loops had not finished is found at the next
    /// start. Call it last, when no request runs any more.
    pub async fn close(self) {
        for running in &self.loops {
            running.abort();
        }
        for running in self.loops {
            running.await.ok();
        }
        self.holder.release_all().await;
        self.stores.close().await;
    }
}

/// Follows the log until the process ends. What stops is told in `/readyz`.
fn run(tail: &Arc<Tail>, follower: impl Follower + 'static, health: &Health) -> JoinHandle<()> {
    let following = follow(tail.clone(), follower, health.clone());
    tokio::spawn(async move { drop(following.await) })
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
