// The shapes of the public API, as its contract names them.

export type Role = "admin" | "operator" | "member" | "auditor" | "integrator";

export interface User {
  id: string;
  email: string | null;
  display_name: string | null;
  roles: Role[];
  status: "active" | "disabled" | "erased";
  created_at: string;
}

export interface SessionAnswer {
  user: User;
  csrf_token: string;
  expires_at: string;
}

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

/** What every command answers: which event was appended last, and where. */
export interface CommandAnswer {
  id: string;
  sequence: number;
  position: number;
}

export type AgentStatus = "active" | "paused" | "retired";

export interface Limits {
  max_attempts?: number;
  timeout_ms?: number;
  backoff_initial_ms?: number;
  backoff_max_ms?: number;
  max_concurrency?: number;
  budget_tokens?: number | null;
}

export interface Agent {
  id: string;
  name: string;
  description: string | null;
  kind: string;
  config: unknown;
  limits: Limits | null;
  status: AgentStatus;
  created_at: string;
  sequence: number;
  position: number;
}

export interface AgentDraft {
  name: string;
  description?: string;
  kind: string;
  config: unknown;
  limits?: Limits;
}

export type AgentChange = Partial<Omit<AgentDraft, "kind">>;

export interface AgentKind {
  kind: string;
  title?: string;
  description?: string;
  config_schema: unknown;
  input_schema: unknown;
  output_schema: unknown;
}

export const TASK_STATUSES = [
  "queued",
  "running",
  "waiting_approval",
  "retrying",
  "completed",
  "failed",
  "cancelled",
  "dead",
] as const;
export type TaskStatus = (typeof TASK_STATUSES)[number];

export interface Step {
  step: number | string;
  kind: string;
  name: string;
  status?: string;
  started_at: string | null;
  finished_at: string | null;
}

export interface Task {
  id: string;
  agent_id: string;
  requested_by: string;
  conversation_id: string | null;
  status: TaskStatus;
  waiting_reason: string | null;
  priority: number;
  deadline: string | null;
  attempt: number;
  input: unknown;
  output: unknown;
  error: { code: string; message: string } | null;
  steps: Step[];
  usage: Record<string, unknown> | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  erased?: boolean;
  sequence: number;
  position: number;
}

export type ScheduleStatus = "active" | "paused" | "ended";

export interface Schedule {
  id: string;
  /** The owner's words, where this person may see them. */
  name: string | null;
  owner: string;
  agent_id: string;
  input: unknown;
  cron: string | null;
  at: string | null;
  timezone: string;
  jitter_s: number;
  overlap: string;
  missed: string;
  status: ScheduleStatus;
  paused_reason: "requested" | "repeated_failure" | null;
  failures: number;
  next_runs: string[];
  queued: number;
  open_tasks: number;
  last_fired_at: string | null;
  last_task_id: string | null;
  last_outcome: string | null;
  created_at: string;
  sequence: number;
  position: number;
}

export interface ScheduleDraft {
  name?: string;
  agent_id?: string;
  input?: unknown;
  cron?: string;
  at?: string;
  timezone?: string;
  jitter_s?: number;
  overlap?: string;
  missed?: string;
}

export type Severity = "info" | "success" | "warning" | "critical";

export interface Notification {
  id: string;
  severity: Severity;
  title: string | null;
  body: string | null;
  link: { kind: string; id: string } | null;
  created_at: string;
  read_at: string | null;
  erased?: boolean;
}

/** A read model, and how far it has followed the log. */
export interface Projection {
  name: string;
  version: number;
  /** Of what is read; null while there is nothing to read yet. */
  serving_version: number | null;
  position: number;
  lag: number;
  state: "live" | "building" | "stopped";
  /** The process that keeps it up. */
  holder: string | null;
  stopped: { position: number; reason: string } | null;
  rebuild: Rebuild | null;
}

export interface Rebuild {
  position: number;
  target: number;
  events_per_s: number | null;
  seconds_left: number | null;
  stopped: { position: number; reason: string } | null;
}

/** A named secret; nobody reads its value. */
export interface Secret {
  name: string;
  set_at: string;
}

/** One CloudEvents 1.0 event; position and sequence are strings of digits there. */
export interface LogEvent {
  id: string;
  type: string;
  subject: string;
  time: string;
  position: string;
  sequence: string;
  actor?: string;
  data: { facts?: Record<string, unknown>; personal?: Record<string, unknown> | null; erased?: boolean };
}

export interface ForecastPoint {
  value: number;
  lower: number;
  upper: number;
}

export interface Outlier {
  index: number;
  value: number;
  expected: number;
  score: number;
}

export interface InsightOutput {
  forecast: ForecastPoint[];
  outliers: Outlier[];
  model: string;
  summary: string;
}

export interface RulesOutput {
  matched: string[];
  outputs: unknown[];
}
