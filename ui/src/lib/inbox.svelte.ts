// How many notifications are unread, kept current by the event log for the badge in the rail.
import { notifications } from "./calls";
import { coalesce } from "./coalesce";
import { api } from "./api";
import { follow, NOTIFICATION_EVENTS } from "./live";

/** Counting stops here: the badge then says "99+", and the answer stays small. */
const UNREAD_COUNTED_MAX = 100;

class Inbox {
  unread = $state(0);
  /** Rises with every change, so that an open inbox page reads its list anew. */
  changes = $state(0);
  readonly badge = $derived(this.unread >= UNREAD_COUNTED_MAX ? `${UNREAD_COUNTED_MAX - 1}+` : String(this.unread));
  readonly refresh = coalesce(() => this.#count());

  /** Counts once, then follows the log from where that count stood; answers how to stop. */
  watch(): () => void {
    let stop = () => {};
    let stopped = false;
    void this.#count().then((position) => {
      if (stopped) return;
      stop = follow({
        types: NOTIFICATION_EVENTS,
        after: position,
        onEvent: (_event, at) => {
          api.sawPosition(at);
          this.changes += 1;
          void this.refresh();
        },
      });
    });
    return () => {
      stopped = true;
      stop();
    };
  }

  async #count(): Promise<number> {
    try {
      const { body, position } = await notifications({ unread: true, limit: UNREAD_COUNTED_MAX });
      this.unread = body.items.length;
      return position;
    } catch {
      // The badge keeps its last number; the pages themselves say what is wrong.
      return api.minPosition;
    }
  }
}

export const inbox = new Inbox();
