"""What keeps the output exactly-once, as switches: each has a control run without it, which must go wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Protections:
    """Those of the shell, the nodes and the database. Those of the Machine are switched off by subclasses of it."""

    #: The database never replaces a success.
    successes_stand: bool = True
    #: Outcomes of attempts that the Machine does not know are not written.
    only_wanted_outcomes: bool = True
    #: A node is lost once it has been silent for its lease.
    leases: bool = True
    #: Leases are judged only after the scheduler has itself been awake for one.
    awake_before_judging: bool = True
    #: What a stream still says after it was closed for good is not heard.
    closed_streams: bool = True
    #: The end of an isolation is written.
    seals: bool = True
    #: The agent keeps outcomes until they are acknowledged.
    acknowledged: bool = True
    #: The scheduler acknowledges what is durable, not what has come.
    acknowledged_when_durable: bool = True
    #: Outcomes are durable before the Machine hears of them.
    durable_before_told: bool = True
    #: The agent refuses the streams of an earlier start of the scheduler.
    fencing: bool = True
    #: A restarted scheduler names the nodes that may hold something.
    expected_nodes: bool = True
    #: What held attempts have opened is not fed again.
    opened_once: bool = True
    #: An attempt that is in the database already is not adopted when its node tells of it again.
    recorded_once: bool = True
    #: What a node had told is counted before the node is lost.
    told_before_lost: bool = True
