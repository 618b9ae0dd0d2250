//! The HTTP surface: the whole route table, and what every route stands on. It parses and answers; it holds no SQL and no rules.
use actix_web::web::{self, ServiceConfig};

pub mod agents;
pub mod api;
pub mod callbacks;
pub mod caller;
pub mod channels;
pub mod cloudevents;
pub mod conditional;
pub mod console;
pub mod describe;
pub mod events;
pub mod headers;
pub mod json;
pub mod leases;
pub mod line;
pub mod metrics;
pub mod notifications;
pub mod ops;
pub mod paging;
pub mod parse;
pub mod path;
pub mod problem;
pub mod projections;
pub mod query;
pub mod route;
pub mod schedules;
pub mod secrets;
pub mod session;
pub mod stream;
pub mod tasks;
pub mod users;

use crate::security::permissions::Permission as P;
use route::{Access, Gate, Resource};

pub mod trace;

const PUBLIC: Access<P> = Access::Public;
const SIGNED_IN: Access<P> = Access::SignedIn;

const fn needs(permission: P) -> Access<P> {
    Access::Needs(permission)
}

/// Every route of the API, with what it asks of its caller. A path that is not here is 404.
pub fn routes() -> Vec<Resource<P>> {
    vec![
        Resource::at("/api/v1/setup").post(PUBLIC, session::set_up),
        Resource::at("/api/v1/session")
            .post(PUBLIC, session::sign_in)
            .get(SIGNED_IN, session::who_am_i)
            .delete(SIGNED_IN, session::sign_out),
        Resource::at("/api/v1/sessions").get(SIGNED_IN, session::list),
        Resource::at("/api/v1/sessions/{id}").delete(SIGNED_IN, session::end),
        Resource::at("/api/v1/users").get(needs(P::UsersRead), users::list).post(needs(P::UsersManage), users::create),
        Resource::at("/api/v1/users/{id}").get(SIGNED_IN, users::show).delete(needs(P::UsersManage), users::erase),
        Resource::at("/api/v1/users/{id}/history").get(SIGNED_IN, events::of_user),
        Resource::at("/api/v1/agent-kinds").get(needs(P::AgentsRead), agents::kinds),
        Resource::at("/api/v1/agents")
            .get(needs(P::AgentsRead), agents::list)
            .post(needs(P::AgentsManage), agents::create),
        Resource::at("/api/v1/agents/{id}")
            .get(needs(P::AgentsRead), agents::show)
            .patch(needs(P::AgentsManage), agents::change)
            .delete(needs(P::AgentsManage), agents::retire),
        Resource::at("/api/v1/agents/{id}/pause").post(needs(P::AgentsManage), agents::pause),
        Resource::at("/api/v1/agents/{id}/resume").post(needs(P::AgentsManage), agents::resume),
        Resource::at("/api/v1/agents/{id}/history").get(needs(P::AgentsRead), events::of_agent),
        Resource::at("/api/v1/agents/{id}/try").post(needs(P::AgentsUse), agents::attempt),
        Resource::at("/api/v1/agents/{id}/tasks").post(needs(P::AgentsUse), tasks::submit),
        Resource::at("/api/v1/agents/{id}/lease").post(needs(P::WorkerWork), leases::lease),
        Resource::at("/api/v1/tasks").get(needs(P::TasksReadOwn), tasks::list),
        Resource::at("/api/v1/tasks/{id}").get(needs(P::TasksReadOwn), tasks::show),
        Resource::at("/api/v1/tasks/{id}/history").get(needs(P::TasksReadOwn), events::of_task),
        Resource::at("/api/v1/tasks/{id}/cancel").post(needs(P::TasksManageOwn), tasks::cancel),
        Resource::at("/api/v1/tasks/{id}/retry").post(needs(P::TasksManageOwn), tasks::retry),
        Resource::at("/api/v1/tasks/{id}/heartbeat").post(needs(P::WorkerWork), leases::heartbeat),
        Resource::at("/api/v1/tasks/{id}/complete").post(needs(P::WorkerWork), leases::complete),
        Resource::at("/api/v1/tasks/{id}/fail").post(needs(P::WorkerWork), leases::fail),
        Resource::at("/api/v1/schedules")
            .get(needs(P::SchedulesRead), schedules::list)
            .post(needs(P::SchedulesManage), schedules::create),
        Resource::at("/api/v1/schedules/{id}")
            .get(needs(P::SchedulesRead), schedules::show)
            .patch(needs(P::SchedulesManage), schedules::change)
            .delete(needs(P::SchedulesManage), schedules::remove),
        Resource::at("/api/v1/schedules/{id}/pause").post(needs(P::SchedulesManage), schedules::pause),
        Resource::at("/api/v1/schedules/{id}/resume").post(needs(P::SchedulesManage), schedules::resume),
        Resource::at("/api/v1/schedules/{id}/trigger").post(needs(P::SchedulesManage), schedules::trigger),
        Resource::at("/api/v1/schedules/{id}/history").get(needs(P::SchedulesRead), events::of_schedule),
        Resource::at("/api/v1/notifications").get(needs(P::NotificationsOwn), notifications::list),
        Resource::at("/api/v1/notifications/read-all").post(needs(P::NotificationsOwn), notifications::read_all),
        Resource::at("/api/v1/notifications/{id}/read").post(needs(P::NotificationsOwn), notifications::read),
        Resource::at("/api/v1/projections").get(needs(P::ProjectionsManage), projections::list),
        Resource::at("/api/v1/projections/{name}").get(needs(P::ProjectionsManage), projections::show),
        Resource::at("/api/v1/projections/{name}/rebuild")
            .post(needs(P::ProjectionsManage), projections::rebuild)
            .delete(needs(P::ProjectionsManage), projections::cancel),
        Resource::at("/api/v1/projections/{name}/resume").post(needs(P::ProjectionsManage), projections::resume),
        Resource::at("/api/v1/projections/{name}/skip").post(needs(P::ProjectionsManage), projections::skip),
        // Before the other, which it is one of.
        Resource::at("/api/v1/channels/events/keys").get(needs(P::EventsReadAll), channels::events_keys),
        Resource::at("/api/v1/channels/{name}/keys").get(needs(P::WorkerWork), channels::keys),
        Resource::at("/api/v1/callbacks/{token}").post(PUBLIC, callbacks::tell),
        Resource::at("/api/v1/secrets").get(needs(P::SecretsRead), secrets::list),
        Resource::at("/api/v1/secrets/{name}")
            .put(needs(P::SecretsManage), secrets::set)
            .delete(needs(P::SecretsManage), secrets::remove),
        Resource::at("/api/v1/events").get(needs(P::EventsReadOwn), events::pull),
        Resource::at("/api/v1/events/stream").get(needs(P::EventsReadOwn), stream::follow),
    ]
}

/// Registers the API, the probes and the console.
pub fn configure(config: &mut ServiceConfig, api: &web::Data<api::Api>, health: &crate::health::Health) {
    let gate: std::sync::Arc<dyn Gate<P>> = std::sync::Arc::new(caller::SessionGate(api.clone()));
    config
        .app_data(api.clone())
        .app_data(web::Data::new(health.clone()))
        .app_data(web::Data::from(gate))
        .configure(ops::configure);
    for resource in routes() {
        config.service(resource);
    }
    config.configure(console::configure);
}
