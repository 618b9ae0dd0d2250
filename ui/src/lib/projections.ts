// How a projection stands, in words.
import { count, lasting, whole } from "./format";
import type { Projection, Rebuild } from "./types";

/** The whole events a second of a rate, or nothing while there is none. */
export function paceWords({ events_per_s, seconds_left }: Rebuild): string {
  const pace = events_per_s === null ? "" : count(Math.round(events_per_s), "event a second", "events a second");
  const left = seconds_left === null ? "" : `${lasting(seconds_left * 1000)} left`;
  return [pace, left].filter(Boolean).join(", ");
}

export function progressWords(rebuild: Rebuild): string {
  const place = `Position ${whole(rebuild.position)} of ${whole(rebuild.target)}`;
  const pace = paceWords(rebuild);
  return pace === "" ? place : `${place}, ${pace}`;
}

export function placeWords({ position, lag }: Projection): string {
  return `At position ${whole(position)}, ${lag === 0 ? "up to date" : `${count(lag, "event", "events")} behind`}`;
}

/** Said where what is read is not of the version that this program folds. */
export function servingWords({ version, serving_version }: Projection): string | null {
  if (serving_version === version) return null;
  return serving_version === null ? "nothing can be read yet" : `version ${serving_version} answers until then`;
}

/** The only table of a projection is not called off: nothing else could answer. */
export function mayCancel({ rebuild, serving_version }: Projection): boolean {
  return rebuild !== null && serving_version !== null;
}

/** Where the rebuild stopped, unless that is what is said of the projection anyhow. */
export function haltedRebuild({ stopped, rebuild }: Projection): Rebuild["stopped"] {
  return rebuild?.stopped && rebuild.stopped.position !== stopped?.position ? rebuild.stopped : null;
}
