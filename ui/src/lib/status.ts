// Words, tones and icons for the states of agents, tasks, users and notifications.
import type { IconName } from "./icons";
import type { Tone } from "./timeline";
import type { AgentStatus, Projection, ScheduleStatus, Severity, TaskStatus, User } from "./types";

export interface Look {
  words: string;
  tone: Tone;
  icon: IconName;
}

export const TASK_LOOKS: Record<TaskStatus, Look> = {
  queued: { words: "Queued", tone: "neutral", icon: "clock" },
  running: { words: "Running", tone: "active", icon: "arrow-repeat" },
  waiting_approval: { words: "Waiting for approval", tone: "warn", icon: "pause" },
  retrying: { words: "Will be tried again", tone: "warn", icon: "arrow-clockwise" },
  completed: { words: "Completed", tone: "good", icon: "check-circle" },
  failed: { words: "Failed", tone: "bad", icon: "x-circle" },
  cancelled: { words: "Cancelled", tone: "neutral", icon: "slash-circle" },
  dead: { words: "Given up", tone: "bad", icon: "exclamation-triangle" },
};

export const AGENT_LOOKS: Record<AgentStatus, Look> = {
  active: { words: "Active", tone: "good", icon: "play" },
  paused: { words: "Paused", tone: "warn", icon: "pause" },
  retired: { words: "Retired", tone: "neutral", icon: "slash-circle" },
};

export const SCHEDULE_LOOKS: Record<ScheduleStatus, Look> = {
  active: { words: "Active", tone: "good", icon: "play" },
  paused: { words: "Paused", tone: "warn", icon: "pause" },
  ended: { words: "Ended", tone: "neutral", icon: "slash-circle" },
};

export const USER_LOOKS: Record<User["status"], Look> = {
  active: { words: "Active", tone: "good", icon: "check-circle" },
  disabled: { words: "Disabled", tone: "warn", icon: "pause" },
  erased: { words: "Erased", tone: "neutral", icon: "slash-circle" },
};

export const PROJECTION_LOOKS: Record<Projection["state"], Look> = {
  live: { words: "Live", tone: "good", icon: "check-circle" },
  building: { words: "Being built", tone: "active", icon: "arrow-repeat" },
  stopped: { words: "Stopped", tone: "bad", icon: "exclamation-triangle" },
};

export const SEVERITY_LOOKS: Record<Severity, Look> = {
  info: { words: "Info", tone: "active", icon: "info-circle" },
  success: { words: "Success", tone: "good", icon: "check-circle" },
  warning: { words: "Warning", tone: "warn", icon: "exclamation-triangle" },
  critical: { words: "Critical", tone: "bad", icon: "x-circle" },
};

/** A task in one of these states goes on by itself. */
export function isUnderway(status: TaskStatus): boolean {
  return status === "queued" || status === "running" || status === "waiting_approval" || status === "retrying";
}

/** A task that failed may be given another chance; a cancelled one stays cancelled. */
export function mayRetry(status: TaskStatus): boolean {
  return status === "failed" || status === "dead";
}
