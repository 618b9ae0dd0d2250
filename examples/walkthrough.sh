#!/usr/bin/env bash
# A person gives an agent a real task, by curl. Needs a running Marvin that was not set up yet (make run), and the token of the
# set-up link that it printed:   examples/walkthrough.sh TOKEN [URL]
set -euo pipefail
cd "$(dirname "$0")"
token=${1:?the token of the set-up link}
url=${2:-http://127.0.0.1:8080}
jar=$(mktemp)
trap 'rm -f "$jar"' EXIT

# The value of a field of the last answer; enough for ids and tokens.
field() { sed -E "s/.*\"$1\": ?\"?([^\",}]*).*/\1/" <<<"$answer"; }
# Long answers are cut here, not by the server.
shorten() { if ((${#1} > 420)); then echo "${1:0:420}…"; else echo "$1"; fi; }
# Shows the call as one would type it, makes it, and keeps the answer.
call() {
  printf '\n$ curl -X %s\n' "$1 $2${3:+ -d '${3:0:72}$([[ ${#3} -gt 72 ]] && echo …)'}"
  answer=$(curl -sS -X "$1" -b "$jar" -c "$jar" -H 'Content-Type: application/json' -H "X-CSRF-Token: ${csrf:-}" \
    ${key:+-H "Idempotency-Key: $key"} ${position:+-H "Marvin-Min-Position: $position"} ${3:+-d "$3"} "$url$2")
  shorten "$answer"
}

echo '# 1. Set the instance up; the answer signs in.'
call POST /api/v1/setup "{\"token\": \"$token\", \"email\": \"ada@example.com\", \"password\": \"correct horse battery\", \"display_name\": \"Ada\"}"
csrf=$(field csrf_token)

echo; echo '# 2. Make an agent that forecasts a year of monthly values.'
call POST /api/v1/agents '{"name": "Passenger forecast", "kind": "insight", "config": {"season": 12, "horizon": 12}}'
agent=$(field id)

echo; echo '# 3. Give it twelve years of airline passengers. The key makes the call safe to repeat.'
values=$(tail -n +2 data/air-passengers.csv | cut -d, -f2 | paste -sd,)
key=passengers-1 call POST "/api/v1/agents/$agent/tasks" "{\"input\": {\"values\": [$values]}}"
task=$(field id)
key=passengers-1 call POST "/api/v1/agents/$agent/tasks" "{\"input\": {\"values\": [$values]}}"

echo; echo '# 4. Watch it finish: the live feed ends here with the completed event.'
printf '\n$ curl -N "%s/api/v1/events/stream?subject=task/%s"\n' "$url" "$task"
curl -sSN -b "$jar" --max-time 30 "$url/api/v1/events/stream?subject=task/$task" 2> /dev/null | while IFS= read -r line; do
  case $line in
  id:* | event:*) echo "$line" ;;
  esac
  [[ $line != 'event: marvin.task.completed.v1' ]] || break
done || true

echo; echo '# 5. Read the result and the notification.'
call GET "/api/v1/tasks/$task"
echo "with this in its output:"; grep -o '"summary":"[^"]*"' <<<"$answer"
call GET '/api/v1/notifications?unread=true'

echo; echo '# 6. Everything that happened is in the log.'
printf '\n$ curl "%s/api/v1/events?after=0"   # position and type of each CloudEvent\n' "$url"
curl -sS -b "$jar" "$url/api/v1/events?after=0" | grep -oE '"position":"[0-9]+"|"type":"[^"]+"' | paste - - |
  sed -E 's/"position":"([0-9]+)"\t"type":"([^"]+)"/\1 \2/'
