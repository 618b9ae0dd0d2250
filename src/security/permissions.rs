//! Which role may do what: one table, and what it does not say is denied.
use serde::{Deserialize, Serialize};

pub use marvin_domain::user::Role;

/// One kind of thing that a request may need. Its snake_case name stands in OpenAPI as `x-permission`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    UsersRead,
    UsersManage,
    AgentsRead,
    AgentsManage,
    /// Give tasks to agents, and try them.
    AgentsUse,
    TasksReadOwn,
    TasksReadAll,
    TasksManageOwn,
    TasksManageAll,
    SchedulesRead,
    SchedulesManage,
    NotificationsOwn,
    /// Events about oneself, one's tasks and notifications, and the agents.
    EventsReadOwn,
    EventsReadAll,
    /// Other people's words and data in events and documents.
    PersonalReadAll,
    /// Look at and end one's own sessions.
    Sessions,
    OperationsRead,
    /// Lease tasks of `worker` agents, read what they were given, and answer for them.
    WorkerWork,
    /// See how projections stand, rebuild them, and take events out of them.
    ProjectionsManage,
    /// See which secrets there are, to name them in agents' configurations. Nobody reads a value.
    SecretsRead,
    /// Set, replace and remove secrets.
    SecretsManage,
}

use Permission::*;

/// Everything there is, in the order of the enum.
pub const ALL: [Permission; 21] = [
    UsersRead,
    UsersManage,
    AgentsRead,
    AgentsManage,
    AgentsUse,
    TasksReadOwn,
    TasksReadAll,
    TasksManageOwn,
    TasksManageAll,
    SchedulesRead,
    SchedulesManage,
    NotificationsOwn,
    EventsReadOwn,
    EventsReadAll,
    PersonalReadAll,
    Sessions,
    OperationsRead,
    WorkerWork,
    ProjectionsManage,
    SecretsRead,
    SecretsManage,
];

/// The table.
const fn granted(role: Role) -> &'static [Permission] {
    match role {
        Role::Admin => &ALL,
        Role::Operator => &[
            AgentsRead,
            AgentsManage,
            AgentsUse,
            TasksReadOwn,
            TasksReadAll,
            TasksManageOwn,
            TasksManageAll,
            SchedulesRead,
            SchedulesManage,
            NotificationsOwn,
            EventsReadOwn,
            EventsReadAll,
            Sessions,
            OperationsRead,
            SecretsRead,
        ],
        Role::Member => {
            &[AgentsRead, AgentsUse, TasksReadOwn, TasksManageOwn, NotificationsOwn, EventsReadOwn, Sessions]
        }
        Role::Auditor => &[
            UsersRead,
            AgentsRead,
            TasksReadOwn,
            TasksReadAll,
            SchedulesRead,
            EventsReadOwn,
            EventsReadAll,
            PersonalReadAll,
            Sessions,
            OperationsRead,
        ],
        Role::Integrator => &[AgentsRead, EventsReadOwn, EventsReadAll, Sessions, WorkerWork],
    }
}

/// Whether this role has this permission.
pub fn allows(role: Role, permission: Permission) -> bool {
    granted(role).contains(&permission)
}

/// Whether any of these roles has this permission; nobody's permissions are more than those of their roles.
pub fn any_allows(roles: &[Role], permission: Permission) -> bool {
    roles.iter().any(|role| allows(*role, permission))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 5] = [Role::Admin, Role::Operator, Role::Member, Role::Auditor, Role::Integrator];

    #[test]
    fn an_administrator_may_do_everything() {
        assert!(ALL.iter().all(|permission| allows(Role::Admin, *permission)));
    }

    #[test]
    fn who_has_no_role_may_do_nothing() {
        assert!(!ALL.iter().any(|permission| any_allows(&[], *permission)));
    }

    #[test]
    fn only_administrators_manage_users() {
        assert!(ROLES[1..].iter().all(|role| !allows(*role, UsersManage)));
    }

    #[test]
    fn only_administrators_manage_projections() {
        assert!(ROLES[1..].iter().all(|role| !allows(*role, ProjectionsManage)));
    }

    #[test]
    fn only_administrators_change_secrets_and_operators_know_their_names() {
        assert!(ROLES[1..].iter().all(|role| !allows(*role, SecretsManage)));
        let readers: Vec<_> = ROLES.into_iter().filter(|role| allows(*role, SecretsRead)).collect();
        assert_eq!(readers, [Role::Admin, Role::Operator]);
    }

    #[test]
    fn an_auditor_reads_all_and_changes_nothing() {
        for permission in [UsersRead, TasksReadAll, SchedulesRead, EventsReadAll, PersonalReadAll] {
            assert!(allows(Role::Auditor, permission), "{permission:?}");
        }
        for permission in
            [UsersManage, AgentsManage, AgentsUse, TasksManageOwn, TasksManageAll, SchedulesManage, NotificationsOwn]
        {
            assert!(!allows(Role::Auditor, permission), "{permission:?}");
        }
    }

    #[test]
    fn a_member_reaches_nothing_of_others() {
        for permission in
            [TasksReadAll, TasksManageAll, SchedulesRead, EventsReadAll, PersonalReadAll, UsersRead, OperationsRead]
        {
            assert!(!allows(Role::Member, permission), "{permission:?}");
        }
        assert!(allows(Role::Member, AgentsUse) && allows(Role::Member, TasksManageOwn));
    }

    #[test]
    fn an_operator_runs_agents_and_tasks_but_not_users() {
        assert!(allows(Role::Operator, AgentsManage) && allows(Role::Operator, TasksManageAll));
        assert!(allows(Role::Operator, SchedulesManage));
        assert!(!allows(Role::Operator, UsersRead) && !allows(Role::Operator, PersonalReadAll));
    }

    #[test]
    fn an_integrator_sees_events_without_personal_parts() {
        assert!(allows(Role::Integrator, EventsReadAll));
        assert!(!allows(Role::Integrator, PersonalReadAll) && !allows(Role::Integrator, AgentsUse));
    }

    #[test]
    fn only_administrators_and_integrators_do_the_work_of_workers_since_it_shows_what_others_wrote() {
        let may: Vec<Role> = ROLES.into_iter().filter(|role| allows(*role, WorkerWork)).collect();
        assert_eq!(may, [Role::Admin, Role::Integrator]);
    }

    #[test]
    fn roles_add_up() {
        let both = [Role::Member, Role::Auditor];
        assert!(any_allows(&both, AgentsUse) && any_allows(&both, PersonalReadAll));
        assert!(!any_allows(&both, AgentsManage));
    }

    #[test]
    fn everyone_who_may_sign_in_may_end_their_sessions() {
        assert!(ROLES.iter().all(|role| allows(*role, Sessions)));
    }

    #[test]
    fn names_are_snake_case() {
        assert_eq!(serde_json::to_value(TasksReadOwn).unwrap(), "tasks_read_own");
        assert_eq!(serde_json::from_value::<Role>("auditor".into()).unwrap(), Role::Auditor);
        assert!(serde_json::from_value::<Role>("root".into()).is_err());
    }
}
