// The page of every route.
import type { Component } from "svelte";
import type { RouteName } from "../lib/navigation.svelte";
import Agent from "./Agent.svelte";
import AgentEdit from "./AgentEdit.svelte";
import AgentNew from "./AgentNew.svelte";
import Agents from "./Agents.svelte";
import Inbox from "./Inbox.svelte";
import NotFound from "./NotFound.svelte";
import Projections from "./Projections.svelte";
import Schedule from "./Schedule.svelte";
import ScheduleEdit from "./ScheduleEdit.svelte";
import Schedules from "./Schedules.svelte";
import Secrets from "./Secrets.svelte";
import Setup from "./Setup.svelte";
import SignIn from "./SignIn.svelte";
import Task from "./Task.svelte";
import Tasks from "./Tasks.svelte";
import Users from "./Users.svelte";

/** Pages take the parameters of their path as properties. */
export const pages: Record<RouteName | "not-found", Component<any>> = {
  agents: Agents,
  "agent-new": AgentNew,
  agent: Agent,
  "agent-edit": AgentEdit,
  tasks: Tasks,
  task: Task,
  schedules: Schedules,
  "schedule-new": ScheduleEdit,
  schedule: Schedule,
  "schedule-edit": ScheduleEdit,
  inbox: Inbox,
  users: Users,
  projections: Projections,
  secrets: Secrets,
  "sign-in": SignIn,
  setup: Setup,
  "not-found": NotFound,
};
