"""The service itself: Ray Serve's deployments. It batches requests, keeps replicas, restarts what dies."""

import asyncio
import errno
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from datasets_io.errors import Exists
from datasets_io.ray_internals import serve_on_loopback
from off2on.replay.transforms import Array
from off2on.serving.journal import Journal, Refused, ServedEpisodes, Step
from off2on.serving.policies import Acted, ServedPolicy
from off2on.serving.requests import BadRequest, Outcome, asked, body_of, outcomes, parsed

ROUTES = {"/act": "POST", "/reward": "POST", "/health": "GET", "/version": "GET"}
AT_ONCE = 1024
"""Requests under way in a process; Ray Serve's own 5 keep its batches small and all others waiting."""


@serve.deployment(num_replicas=1, max_ongoing_requests=AT_ONCE)
class Logbook:
    """The one process that writes what was served; see `journal.Journal`.

    Args:
        folder: Of the journal.
        name: Of the data set.
        source: How its episodes are read.
        every: Whole episodes after which they become a generation.
    """

    def __init__(self, folder: str, name: str, source: ServedEpisodes, every: int) -> None:
        serve_on_loopback()
        self.journal, self.every = Journal(Path(folder), name, source), every

    def served(self, said: Step) -> str:
        """See `Journal.served`."""
        return self.journal.served(said)

    def came(self, found: list[Outcome]) -> dict[str, Any]:
        """What came of actions, or the fault in it: an exception would be wrapped on its way."""
        try:
            whole = self.journal.came(found)
        except BadRequest as fault:
            return {"error": fault.error, "expected": fault.expected, "status": fault.status}
        answer: dict[str, Any] = {"taken": len(found), "written": 0}
        if whole >= self.every:
            try:
                answer["written"] = self.journal.flush()
            except Exists:  # another process is adding: with the next outcome
                pass
            except Refused as fault:
                answer["refused"] = str(fault)
        return answer

    def close(self) -> None:
        """Write what is whole."""
        self.journal.close()


@serve.deployment(max_ongoing_requests=AT_ONCE)
class Service:
    """Answers requests with a policy.

    Args:
        file: The policy's.
        width: Numbers in an observation.
        about: What /version says besides the version.
        logbook: Who remembers; None: nobody.
    """

    def __init__(self, file: str, width: int, about: dict[str, Any], logbook: Any = None) -> None:
        serve_on_loopback()
        self.policy, self.width, self.about, self.logbook = ServedPolicy(Path(file)), width, about, logbook

    @serve.batch(max_batch_size=256, batch_wait_timeout_s=0.002)  # type: ignore[untyped-decorator]
    async def act(self, each: list[Array]) -> list[Acted]:
        """Actions for the observations of many requests at once."""
        made = self.policy.act(np.concatenate(each))
        ends = np.cumsum([len(obs) for obs in each])[:-1]
        actions = np.split(made.actions, ends)
        drawn = made.log_probs is not None
        said = np.split(made.log_probs, ends) if drawn else [None] * len(each)  # type: ignore[arg-type]
        return [Acted(*both, made.version) for both in zip(actions, said, strict=True)]

    async def __call__(self, request: Request) -> JSONResponse:
        """One request of HTTP."""
        try:
            path = request.url.path.rstrip("/")
            if path not in ROUTES:
                raise BadRequest(f"there is nothing at {path or '/'}.", f"There is {' '.join(ROUTES)}.", 404)
            if request.method != ROUTES[path]:
                raise BadRequest(f"{path} is asked by {ROUTES[path]}, not {request.method}.", "", 405)
            if path == "/health":
                return JSONResponse({"status": "ok"})
            if path == "/version":
                self.policy.refresh()
                return JSONResponse({"version": self.policy.version, **self.about})
            said = parsed(await body_of(request))
            return await (self._acted(said) if path == "/act" else self._rewarded(said))
        except BadRequest as fault:
            return JSONResponse({"error": fault.error, "expected": fault.expected}, fault.status)

    async def _acted(self, said: Any) -> JSONResponse:
        want = asked(said, self.width)
        if want.episode is not None and self.logbook is None:
            raise BadRequest("nothing is remembered here.", "Leave out 'episode', or serve with --log.")
        made = await self.act(want.obs)
        said = None if made.log_probs is None else made.log_probs.tolist()
        answer = {"actions": made.actions.tolist(), "log_prob": said, "version": made.version}
        if want.alone:
            answer |= {"actions": answer["actions"][0], "log_prob": None if said is None else said[0]}
        if want.episode is not None:
            step = {"episode": want.episode, "obs": want.obs[0].tolist(), "action": answer["actions"]}
            step |= {name: answer[name] for name in ("log_prob", "version")}
            answer["id"] = await self.logbook.served.remote(step)
        return JSONResponse(answer)

    async def _rewarded(self, said: Any) -> JSONResponse:
        if self.logbook is None:
            raise BadRequest("nothing is remembered here.", "Serve with --log NAME.", 404)
        answer = await self.logbook.came.remote(outcomes(said, self.width))
        return JSONResponse(answer, answer.pop("status", 200))


def start(
    host: str, port: int, replicas: int, service: dict[str, Any], logbook: dict[str, Any] | None
) -> Any:
    """Serve until `stop`; the handle of who remembers, if anybody does.

    Raises:
        OSError: Somebody listens there, perhaps a process of Ray itself.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # it tells of every step of its start
    try:
        serve.start(http_options={"host": host, "port": port})
    except RuntimeError as error:
        if "Failed to bind" in str(error):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        raise
    keeper = None if logbook is None else Logbook.bind(**logbook)  # type: ignore[attr-defined]
    app = Service.options(num_replicas=replicas).bind(**service, logbook=keeper)  # type: ignore[attr-defined]
    serve.run(app, name="off2on", route_prefix="/")
    return None if logbook is None else serve.get_deployment_handle("Logbook", "off2on")


def stop(keeper: Any) -> None:
    """Write what is whole, and end."""
    if keeper is not None:
        asyncio.run(_closed(keeper))
    serve.shutdown()


async def _closed(keeper: Any) -> None:
    await keeper.close.remote()
