// What the console says of each kind of agent that it knows; a kind it does not know is shown by the server's own words.
import type { IconName } from "./icons";
import type { AgentKind } from "./types";

interface KindWords {
  title: string;
  description: string;
  icon: IconName;
}

const KNOWN: Record<string, KindWords> = {
  insight: {
    title: "Insight",
    description: "Forecasts a series of numbers, with a likely range, and points out values that stand out.",
    icon: "graph-up",
  },
  rules: {
    title: "Rules",
    description: "Checks what it is given against your conditions, then notifies people, starts tasks or answers.",
    icon: "signpost-split",
  },
  worker: {
    title: "Worker",
    description: "Hands its tasks to programs of your own, which lease them and answer over HTTP.",
    icon: "plug",
  },
  webhook: {
    title: "Webhook",
    description: "Hands tasks to an address of yours and takes its answer, at once or by a callback.",
    icon: "send",
  },
};

export function kindWords(kind: string, known?: AgentKind): KindWords {
  const words = KNOWN[kind];
  return {
    title: known?.title ?? words?.title ?? kind,
    description: known?.description ?? words?.description ?? "Configured in JSON.",
    icon: words?.icon ?? "robot",
  };
}
