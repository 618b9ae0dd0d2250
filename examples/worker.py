#!/usr/bin/env python3
"""A worker for an agent of the kind `worker`: leases its tasks, does them, answers. Needs nothing but Python 3.

    export MARVIN_URL=http://127.0.0.1:8080 MARVIN_EMAIL=… MARVIN_PASSWORD=… MARVIN_AGENT=<the agent's id>
    python3 examples/worker.py

Counts the words of {"text": "…"}; with "seconds" it takes as long as slow work would. SIGTERM or Ctrl-C: it ends behind the task
that it is at. What the calls mean: docs/workers.md.
"""
import http.cookiejar, json, os, signal, sys, threading, time, urllib.error, urllib.request

URL = os.environ.get("MARVIN_URL", "http://127.0.0.1:8080")
WAIT_S = 20  # for a task, before asking again
PAUSE_S = 1  # before asking again a server that cannot answer


class Refused(Exception):
    """An answer that asking again would not change."""

    def __init__(self, status, problem):
        super().__init__(f"{status} {problem.get('title', '')}: {problem.get('detail', '')}")
        self.status = status


class Marvin:
    def __init__(self):
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        self.csrf = ""
        self.position = 0  # in the log, as the last answer that named one had it

    def sign_in(self):
        who = {"email": os.environ["MARVIN_EMAIL"], "password": os.environ["MARVIN_PASSWORD"]}
        self.csrf = self.send("/api/v1/session", who)["csrf_token"]

    def send(self, path, body=None):
        """POSTs the body, or GETs where there is none."""
        headers = {"Content-Type": "application/json", "X-CSRF-Token": self.csrf}
        request = urllib.request.Request(URL + path, None if body is None else json.dumps(body).encode(), headers)
        with self.opener.open(request, timeout=WAIT_S + 10) as answer:
            self.position = int(answer.headers.get("Marvin-Position") or self.position)
            return json.load(answer)

    def call(self, path, body=None):
        """Makes a call; again while the server cannot answer, and behind a new sign-in where the session has ended."""
        while True:
            try:
                if not self.csrf:
                    self.sign_in()
                return self.send(path, body)
            except urllib.error.HTTPError as error:
                if error.code == 401 and self.csrf:
                    self.csrf = ""
                    continue
                if error.code < 500 and error.code != 429:
                    raise Refused(error.code, json.load(error)) from None
                trouble = error
            except (OSError, ValueError) as error:  # refused, broken off, too slow
                trouble = error
            print(f"Marvin cannot answer, trying again: {trouble}", file=sys.stderr)
            time.sleep(PAUSE_S)


def work(given, lost):
    """The work itself. `lost` is set when nothing that it does counts any more."""
    lost.wait(given.get("seconds", 0))
    return {"words": len(given["text"].split())}


def keep(marvin, path, lease, every_s, lost, done):
    """Tells Marvin now and then that the work goes on, until it is done or lost."""
    while not done.wait(every_s):
        try:
            marvin.call(f"{path}/heartbeat", {"lease": lease})
        except Refused as why:  # cancelled, out of time, or somebody else's by now
            print(f"stopping: {why}", file=sys.stderr)
            return lost.set()


def answer(marvin, path, lease, task, lost):
    try:
        output = work(task["input"], lost)
    except Exception as error:  # the same input would fail again
        return marvin.call(f"{path}/fail", {"lease": lease, "code": "bad_input", "message": repr(error)[:4000], "retry": False})
    if lost.is_set():
        return
    try:
        marvin.call(f"{path}/complete", {"lease": lease, "output": output})  # the same answer may be sent again
    except Refused as why:
        if why.status not in (413, 422):
            raise
        marvin.call(f"{path}/fail", {"lease": lease, "code": "result_too_large", "message": str(why), "retry": False})


def run(marvin, leased, every_s):
    task, lease, path = leased["task"], leased["lease"], f"/api/v1/tasks/{leased['task']['id']}"
    print(f"task {task['id']}, attempt {task['attempt']}", flush=True)
    lost, done = threading.Event(), threading.Event()
    every_s = min(every_s, leased["expires_in_ms"] / 3000)
    threading.Thread(target=keep, args=(marvin, path, lease, every_s, lost, done), daemon=True).start()
    try:
        answer(marvin, path, lease, task, lost)
    except Refused as why:  # too late
        print(f"not taken: {why}", file=sys.stderr)
    finally:
        done.set()


def main():
    stopping, busy = threading.Event(), threading.Event()

    def stop(*_):
        stopping.set()
        if not busy.is_set():
            sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    marvin, agent = Marvin(), os.environ["MARVIN_AGENT"]
    print(f"waiting for tasks of agent {agent}", flush=True)
    while not stopping.is_set():
        given = marvin.call(f"/api/v1/agents/{agent}/lease", {"max": 1, "wait_s": WAIT_S})
        busy.set()
        for leased in given["tasks"]:
            run(marvin, leased, given["heartbeat_s"])
        busy.clear()


if __name__ == "__main__":
    main()
