// Asks again and again while somebody looks. For what is told by no event: how far work has come.

/** The part of a document that says whether it is seen. */
export interface Seen {
  hidden: boolean;
  addEventListener(name: "visibilitychange", listener: () => void): void;
  removeEventListener(name: "visibilitychange", listener: () => void): void;
}

/** Runs `ask` now, and again `pauseMs` after each time it ended, unless the page is hidden: then once it is seen again. Answers how to stop. */
export function pollWhileSeen(ask: () => Promise<unknown>, pauseMs: number, page: Seen = document): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asking = false;
  let stopped = false;

  async function round() {
    clearTimeout(timer);
    if (asking || stopped || page.hidden) return;
    asking = true;
    // Whoever asks shows what went wrong; the next round may go well.
    await ask().catch(() => {});
    asking = false;
    if (!stopped) timer = setTimeout(() => void round(), pauseMs);
  }

  const changed = () => void round();
  page.addEventListener("visibilitychange", changed);
  void round();
  return () => {
    stopped = true;
    clearTimeout(timer);
    page.removeEventListener("visibilitychange", changed);
  };
}
