"""The deployments of Ray Serve: replicas that answer requests in batches, and one actor with the journal."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from datasets_io.errors import NoSpace, Unreachable
from datasets_io.ray_internals import serve_on_loopback
from off2on.replay.transforms import Array
from off2on.serving.journal import NOT_NOW, Journal, RefusedEpisodesError
from off2on.serving.policies import Actions, ServedPolicy
from off2on.serving.requests import (
    BadRequestError,
    Outcome,
    parse_act_request,
    parse_json,
    parse_outcomes,
    read_body,
)
from off2on.serving.served_episodes import ServedEpisodes

ROUTES = {"/act": "POST", "/reward": "POST", "/health": "GET", "/version": "GET"}
MAX_ONGOING_REQUESTS = 1024
"""Concurrent requests per process; with Ray Serve's default of 5 the batches stay small."""


@serve.deployment(num_replicas=1, max_ongoing_requests=MAX_ONGOING_REQUESTS)
class JournalActor:
    """The only process that writes the journal; see `journal.Journal`.

    Args:
        folder: Folder of the journal.
        name: Name of the data set.
        source: Reads the episodes of a batch file.
        every: Number of complete episodes that make a generation.
    """

    def __init__(self, folder: str, name: str, source: ServedEpisodes, every: int) -> None:
        serve_on_loopback()
        self.journal, self.every = Journal(Path(folder), name, source), every

    # Ray Serve calls these methods in several threads.

    def add_step(self, given: dict[str, Any]) -> dict[str, Any]:
        """Record a served action and return its id, see `Journal.add_step`; or an error as data."""
        return _answer(lambda: {"id": self.journal.add_step(given)})

    def add_outcomes(self, found: list[Outcome]) -> dict[str, Any]:
        """Record outcomes and return the answer; or an error as data."""
        return _answer(lambda: self._add_outcomes(found))

    def _add_outcomes(self, found: list[Outcome]) -> dict[str, Any]:
        complete = self.journal.add_outcomes(found)
        answer: dict[str, Any] = {"taken": len(found), "written": 0}
        if complete >= self.every:
            try:
                answer["written"] = self.journal.flush()
            except NOT_NOW:  # the outcomes are recorded: tried again with the next ones
                pass
            except RefusedEpisodesError as fault:
                answer["refused"] = str(fault)
        return answer

    def close(self) -> None:
        """Write the complete episodes."""
        self.journal.close()


def _answer(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result, or an error as data, because Ray would wrap an exception."""
    try:
        return call()
    except BadRequestError as fault:
        return {"error": fault.error, "expected": fault.expected, "status": fault.status}
    except NoSpace as fault:
        return {"error": fault.what, "expected": "Send it again later.", "status": 507}
    except Unreachable as fault:
        return {"error": fault.what, "expected": "Send it again later.", "status": 503}


@serve.deployment(max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Service:
    """Answers requests with a policy.

    Args:
        file: The policy file.
        width: Length of an observation.
        about: Facts that /version reports besides the version.
        journal: Handle of the journal's actor; None: nothing is recorded.
    """

    def __init__(self, file: str, width: int, about: dict[str, Any], journal: Any = None) -> None:
        serve_on_loopback()
        self.policy, self.width, self.about, self.journal = ServedPolicy(Path(file)), width, about, journal

    @serve.batch(max_batch_size=256, batch_wait_timeout_s=0.002)  # type: ignore[untyped-decorator]
    async def act(self, each: list[Array]) -> list[Actions]:
        """Return actions for the observations of several requests."""
        acted = self.policy.act(np.concatenate(each))
        ends = np.cumsum([len(obs) for obs in each])[:-1]
        actions = np.split(acted.actions, ends)
        drawn = acted.log_probs is not None
        log_probs = np.split(acted.log_probs, ends) if drawn else [None] * len(each)  # type: ignore[arg-type]
        return [Actions(*both, acted.version) for both in zip(actions, log_probs, strict=True)]

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer a request."""
        try:
            path = request.url.path.rstrip("/")
            if path not in ROUTES:
                raise BadRequestError(
                    f"there is no {path or '/'}.", f"Expected one of {' '.join(ROUTES)}.", 404
                )
            if request.method != ROUTES[path]:
                raise BadRequestError(f"{path} takes {ROUTES[path]}, not {request.method}.", "", 405)
            if path == "/health":
                return JSONResponse({"status": "ok"})
            if path == "/version":
                self.policy.refresh()
                return JSONResponse({"version": self.policy.version, **self.about})
            given = parse_json(await read_body(request))
            return await (self._acted(given) if path == "/act" else self._rewarded(given))
        except BadRequestError as fault:
            return JSONResponse({"error": fault.error, "expected": fault.expected}, fault.status)

    async def _acted(self, given: Any) -> JSONResponse:
        want = parse_act_request(given, self.width)
        if want.episode is not None and self.journal is None:
            raise BadRequestError(
                "episodes are not recorded here.", "Leave out 'episode', or serve with --log."
            )
        acted = await self.act(want.obs)
        log_prob = None if acted.log_probs is None else acted.log_probs.tolist()
        answer = {"actions": acted.actions.tolist(), "log_prob": log_prob, "version": acted.version}
        if want.is_single:
            answer |= {"actions": answer["actions"][0], "log_prob": log_prob and log_prob[0]}
        if want.episode is not None:
            step = {"episode": want.episode, "obs": want.obs[0].tolist(), "action": answer["actions"]}
            step |= {name: answer[name] for name in ("log_prob", "version")}
            recorded = await self.journal.add_step.remote(step)
            if "error" in recorded:
                return JSONResponse(recorded, recorded.pop("status"))
            answer |= recorded
        return JSONResponse(answer)

    async def _rewarded(self, given: Any) -> JSONResponse:
        if self.journal is None:
            raise BadRequestError("episodes are not recorded here.", "Serve with --log NAME.", 404)
        answer = await self.journal.add_outcomes.remote(parse_outcomes(given, self.width))
        return JSONResponse(answer, answer.pop("status", 200))


def start(
    host: str, port: int, replicas: int, service: dict[str, Any], journal: dict[str, Any] | None
) -> Any:
    """Start to serve and return the handle of the journal's actor, None if nothing is recorded.

    Raises:
        OSError: Another process listens there, perhaps one of Ray.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # it logs every step of its start
    try:
        serve.start(http_options={"host": host, "port": port})
    except RuntimeError as error:
        if "Failed to bind" in str(error):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        raise
    actor = None if journal is None else JournalActor.bind(**journal)  # type: ignore[attr-defined]
    app = Service.options(num_replicas=replicas).bind(**service, journal=actor)  # type: ignore[attr-defined]
    serve.run(app, name="off2on", route_prefix="/")
    return None if journal is None else serve.get_deployment_handle("JournalActor", "off2on")


def stop(journal_handle: Any) -> None:
    """Write the complete episodes and stop."""
    if journal_handle is not None:
        asyncio.run(_closed(journal_handle))
    serve.shutdown()


async def _closed(journal_handle: Any) -> None:
    await journal_handle.close.remote()
