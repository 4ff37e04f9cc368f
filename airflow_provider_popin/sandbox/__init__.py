"""A local Popin server for tests, demos and benchmarks: endpoints, webhooks, fault switches, an oracle.

It is an independent reading of what is known of Popin's API. It shares no code with the client of this
package, so that a misreading in the client shows up as a failing test, and it claims no more than is known:
statements about Popin in its docstrings carry a grade (D documented by Popin, P shown by Popin elsewhere, I
inference, U unknown).

On the command line::

    python -m airflow_provider_popin.sandbox --port 8081 --fault schedule:reset_after_commit=0.1

In a test::

    with SandboxServer(SandboxSettings(seats_per_slot=2)) as popin:
        popin.set_faults("schedule:500_after_commit@1")
        ...  # talk to popin.url with popin.settings.api_key and popin.settings.token
        assert popin.stats()["bookings_per_lead_max"] == 1

After a commit it can tell a receiver by webhook, as Popin tells a seller: of captures and bookings at once,
of calls at their time, which may be sooner than the clock says::

    python -m airflow_provider_popin.sandbox --webhook-url http://127.0.0.1:8080/popin/webhooks/popin_default
        --webhook-key a-key --outcome-after 20 --webhook missed=0.5 --webhook duplicate=0.1

Leads that carry `campaign.test_lead` (any text) are followed from capture to booking, so that the oracle can
count per lead. Everything lives in memory; nothing is written, and no body is ever logged.

Rooms: `settings` (all options); `grid` and `seats` (slots, their spelling, who has them); `validation`,
`customers` and `popin` (what the endpoints answer without faults); `fault_kinds`, `faults` and
`fault_replies` (names, choice, answers); `rows` and `oracle` (what happened); `webhooks` (what is told),
with `webhook_settings`, `webhook_events` (names and bodies), `webhook_plan` (what becomes of a call) and
`webhook_delivery` (queue and wire); `wire` and `app` (HTTP, the three endpoints); `control`
(`/_sandbox/*`); `transport` and `runner` (connections, uvicorn); `server` (`SandboxServer`); `arguments` and
`__main__` (command line); `loopback` and `times` (small things that several need).
"""

from __future__ import annotations
