// One function per API call that the console makes: paths, bodies and answers, and nothing else.
import { api, SESSION_PATH, SETUP_PATH, type Answer } from "./api";
import type {
  Agent,
  AgentChange,
  AgentDraft,
  AgentKind,
  CommandAnswer,
  LogEvent,
  Notification,
  Page,
  Projection,
  Role,
  Schedule,
  ScheduleDraft,
  Secret,
  SessionAnswer,
  Task,
  User,
} from "./types";

/** Rows asked for at a time: about two screens, so that "Show more" is rare and the first answer small. */
const PAGE_ROWS = 50;

type Query = Record<string, string | number | boolean | null | undefined>;

export function withQuery(path: string, query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text === "" ? path : `${path}?${text}`;
}

const V1 = "/api/v1";
const list = <T>(path: string, query: Query) => api.get<Page<T>>(withQuery(`${V1}${path}`, { limit: PAGE_ROWS, ...query }));

// Who
export const setUp = (body: { token: string; email: string; password: string; display_name: string }) =>
  api.command<SessionAnswer>("POST", SETUP_PATH, body);
export const signIn = (body: { email: string; password: string }) => api.command<SessionAnswer>("POST", SESSION_PATH, body);
export const readSession = () => api.get<SessionAnswer>(SESSION_PATH);
export const signOut = () => api.command<null>("DELETE", SESSION_PATH);

// Agents
export const agentKinds = () => api.get<{ items: AgentKind[] }>(`${V1}/agent-kinds`);
export const agents = (query: { kind?: string; status?: string; cursor?: string | null } = {}) => list<Agent>("/agents", query);
export const agent = (id: string) => api.get<Agent>(`${V1}/agents/${id}`);
export const createAgent = (draft: AgentDraft, idempotencyKey: string) =>
  api.command<CommandAnswer>("POST", `${V1}/agents`, draft, { idempotencyKey });
export const changeAgent = (id: string, change: AgentChange, ifSequence: number) =>
  api.command<CommandAnswer>("PATCH", `${V1}/agents/${id}`, change, { ifSequence });
export const pauseAgent = (id: string) => api.command<CommandAnswer>("POST", `${V1}/agents/${id}/pause`);
export const resumeAgent = (id: string) => api.command<CommandAnswer>("POST", `${V1}/agents/${id}/resume`);
export const retireAgent = (id: string) => api.command<CommandAnswer>("DELETE", `${V1}/agents/${id}`);

// Tasks
export const submitTask = (agentId: string, body: { input: unknown; priority?: number }, idempotencyKey: string) =>
  api.command<CommandAnswer>("POST", `${V1}/agents/${agentId}/tasks`, body, { idempotencyKey });
export const tasks = (query: { agent_id?: string; status?: string; cursor?: string | null; limit?: number } = {}) =>
  list<Task>("/tasks", query);
export const task = (id: string) => api.get<Task>(`${V1}/tasks/${id}`);
export const cancelTask = (id: string) => api.command<CommandAnswer>("POST", `${V1}/tasks/${id}/cancel`);
export const retryTask = (id: string) => api.command<CommandAnswer>("POST", `${V1}/tasks/${id}/retry`);
export const taskHistory = (id: string) => api.get<LogEvent[]>(`${V1}/tasks/${id}/history`);

// Schedules
const SCHEDULES = `${V1}/schedules`;
export const schedules = (query: { status?: string; cursor?: string | null } = {}) => list<Schedule>("/schedules", query);
export const schedule = (id: string) => api.get<Schedule>(`${SCHEDULES}/${id}`);
export const createSchedule = (draft: ScheduleDraft, idempotencyKey: string) =>
  api.command<CommandAnswer>("POST", SCHEDULES, draft, { idempotencyKey });
export const changeSchedule = (id: string, change: ScheduleDraft, ifSequence: number) =>
  api.command<CommandAnswer>("PATCH", `${SCHEDULES}/${id}`, change, { ifSequence });
export const pauseSchedule = (id: string) => api.command<CommandAnswer>("POST", `${SCHEDULES}/${id}/pause`);
export const resumeSchedule = (id: string) => api.command<CommandAnswer>("POST", `${SCHEDULES}/${id}/resume`);
export const triggerSchedule = (id: string, idempotencyKey: string) =>
  api.command<CommandAnswer>("POST", `${SCHEDULES}/${id}/trigger`, undefined, { idempotencyKey });
export const removeSchedule = (id: string) => api.command<CommandAnswer>("DELETE", `${SCHEDULES}/${id}`);

// Inbox
export const notifications = (query: { unread?: boolean; cursor?: string | null; limit?: number } = {}) =>
  list<Notification>("/notifications", query);
export const markRead = (id: string) => api.command<CommandAnswer>("POST", `${V1}/notifications/${id}/read`);
export const markAllRead = () => api.command<unknown>("POST", `${V1}/notifications/read-all`);

// Users
export interface UserDraft {
  email: string;
  display_name: string;
  password: string;
  roles: Role[];
}
export const users = (query: { cursor?: string | null } = {}) => list<User>("/users", query);
export const createUser = (draft: UserDraft) => api.command<CommandAnswer>("POST", `${V1}/users`, draft);
export const eraseUser = (id: string) => api.command<CommandAnswer>("DELETE", `${V1}/users/${id}`);

// Projections
const PROJECTIONS = `${V1}/projections`;
export const projections = () => api.get<Page<Projection>>(PROJECTIONS);
export const rebuildProjection = (name: string) => api.command<Projection>("POST", `${PROJECTIONS}/${name}/rebuild`);
export const cancelRebuild = (name: string) => api.command<Projection>("DELETE", `${PROJECTIONS}/${name}/rebuild`);
export const resumeProjection = (name: string) => api.command<Projection>("POST", `${PROJECTIONS}/${name}/resume`);
export const skipEvent = (name: string, body: { position: number; reason: string }, idempotencyKey: string) =>
  api.command<CommandAnswer>("POST", `${PROJECTIONS}/${name}/skip`, body, { idempotencyKey });

// Secrets
const secretPath = (name: string) => `${V1}/secrets/${encodeURIComponent(name)}`;
export const secrets = () => api.get<Page<Secret>>(`${V1}/secrets`);
export const setSecret = (name: string, value: string) => api.command<CommandAnswer>("PUT", secretPath(name), { value });
export const removeSecret = (name: string) => api.command<CommandAnswer>("DELETE", secretPath(name));

export type { Answer };
