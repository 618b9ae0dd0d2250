"""Makes round trips as it is told on its standard input, and answers each line with the seconds of one.

    together COUNT IN_FLIGHT    COUNT round trips, IN_FLIGHT of them under way; the time of all divided by COUNT
    alone COUNT                 COUNT round trips one after the other; the median time of one
"""
import collections
import statistics
import sys
import time

from tasks import decide


def check(number, result):
    amount = 2000 + number
    assert result == {"matched": ["large order"], "outputs": [{"size": "large", "amount": amount}]}, result


def together(count, in_flight):
    pending = collections.deque()
    start = time.perf_counter()
    for number in range(count):
        if len(pending) == in_flight:
            oldest, result = pending.popleft()
            check(oldest, result.get())
        pending.append((number, decide.delay({"amount": 2000 + number})))
    for number, result in pending:
        check(number, result.get())
    return (time.perf_counter() - start) / count


def alone(count):
    times = []
    for number in range(count):
        start = time.perf_counter()
        check(number, decide.delay({"amount": 2000 + number}).get())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


for line in sys.stdin:
    words = line.split()
    seconds = together(int(words[1]), int(words[2])) if words[0] == "together" else alone(int(words[1]))
    print(seconds, flush=True)
