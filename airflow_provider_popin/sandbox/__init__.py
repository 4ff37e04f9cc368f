"""A local Popin server for tests, demos and benchmarks: endpoints, fault switches, an oracle of the bookings.

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

Leads that carry `campaign.test_lead` (any text) are followed from capture to booking, so that the oracle can
count per lead. Everything lives in memory; nothing is written, and no body is ever logged.

Rooms: `settings` (all options); `grid` and `seats` (slots, their spelling, who has them); `validation` and
`popin` (what the endpoints answer without faults); `fault_kinds`, `faults` and `fault_replies` (names,
choice, answers); `rows` and `oracle` (what happened); `wire` and `app` (HTTP, the three endpoints);
`control` (`/_sandbox/*`); `transport` and `runner` (connections, uvicorn); `server` (`SandboxServer`);
`__main__` (command line).
"""

from __future__ import annotations
