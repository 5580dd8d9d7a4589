"""The undocumented names of Ray that this project uses, all in one module.

Ray may rename or remove them in any release. ``tests/test_ray_internals.py`` has one test for each, and
checks that no other module uses such a name. The attributes of RLlib's classes are in
`off2on.rllib.rllib_internals`: they have to be set in subclasses of these classes, and `datasets_io` must
stay importable without RLlib. Ray is imported in the functions, because that takes seconds.

============================================================ ================================================
name (Ray 2.60)                                              why there is no public one
============================================================ ================================================
``ray._private.ray_constants.ENABLE_RAY_CLUSTER``            listen on the loopback interface alone
``ray._private.utils.set_sigterm_handler``                   keep the signal handlers of the process
``ray._private.worker.connect``                              the same
``ray._private.state.available_resources_per_node``          free resources; public: the cluster's sum only
``ray._private.services.canonicalize_bootstrap_address``     the address that ``auto`` stands for
``ray._private.authentication.authentication_token_setup``   show a cluster's token before joining it
``ray._raylet.GcsClient``                                    find out whether a cluster wants a token
``ray.serve._private.replica.add_port_to_grpc_server``       replicas that listen on the loopback interface
``ray._common.tls_utils.add_port_to_grpc_server``            the same
``ray._common.deprecation`` (a logger)                       silence RLlib's notes to its own developers
``ray.tune.registry._global_registry``                       environments registered with Tune
``ray.job_config.JobConfig`` (its search path)             keep the current folder from the head of sys.path
============================================================ ================================================
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_MULTI_NODE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""The variable for the loopback interface, made for the firewalls of these systems. Given an address of this
machine only, Ray takes the one that other machines can reach, and its servers listen on all interfaces."""


@contextmanager
def loopback_only() -> Iterator[None]:
    """Have a Ray that is started inside listen on the loopback interface alone."""
    from ray._private import ray_constants

    constant, variable = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(_MULTI_NODE)
    ray_constants.ENABLE_RAY_CLUSTER = False  # for this process, which read the variable at import
    os.environ[_MULTI_NODE] = "0"  # for Ray's processes
    try:
        yield
    finally:  # a cluster that this process joins later has several machines
        ray_constants.ENABLE_RAY_CLUSTER = constant
        os.environ.pop(_MULTI_NODE)
        if variable is not None:
            os.environ[_MULTI_NODE] = variable


class _KeptPath(list[str]):
    """A list to which Ray adds no folder."""

    def __bool__(self) -> bool:
        return True

    def extend(self, folders: Any) -> None:
        """Leave out the folders."""


def job_config() -> Any:
    """Return the configuration of a job whose workers do not search the current folder before all packages.

    Ray puts the current folder and that of the script first: a file such as `queue.py` there would take the
    place of Python's own. `datasets_io.imports.path_extender` gives the workers these folders last.
    """
    from ray.job_config import JobConfig

    job = JobConfig()
    job._py_driver_sys_path = _KeptPath()
    return job


@contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Keep the handlers of SIGTERM and SIGINT while Ray starts.

    Ray installs handlers of its own: during the start they end the process, and once it is connected they
    abort it.
    """
    from ray._private import utils, worker

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    set_handler, connect = utils.set_sigterm_handler, worker.connect

    def connect_and_reset(*args: Any, **kwargs: Any) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, handlers)
        try:
            return connect(*args, **kwargs)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)

    utils.set_sigterm_handler, worker.connect = lambda handler: None, connect_and_reset
    try:
        yield
    finally:
        utils.set_sigterm_handler, worker.connect = set_handler, connect


def free_resources() -> dict[str, dict[str, float]]:
    """Return the free resources of the joined cluster, by node id and name of the resource."""
    from ray._private import state

    free: dict[str, dict[str, float]] = state.available_resources_per_node()
    return free


def resolved_address(address: str) -> str:
    """Return HOST:PORT of a cluster's address, which may be ``auto``."""
    from ray._private.services import canonicalize_bootstrap_address

    return canonicalize_bootstrap_address(address) or address


def read_token() -> None:
    """Read this machine's authentication token, if the environment says that clusters have one."""
    from ray._private.authentication import authentication_token_setup as tokens

    logging.getLogger(tokens.__name__).setLevel(logging.ERROR)
    tokens.ensure_token_if_auth_enabled(create_token_if_missing=False)


def use_token() -> bool:
    """Use this machine's authentication token from now on; return False if there is none."""
    from ray._private.authentication import authentication_token_setup as tokens

    return bool(tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False))


def refuses_token(address: str, timeout_s: float) -> bool:
    """Return True if a cluster wants a token, and this process shows none or another one.

    A token must be shown only where it is wanted: the processes of a cluster without one could not call back.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError, RpcError

    # With the id of any cluster: a client without one requests it again and again.
    client = GcsClient(address=address, cluster_id="00" * 28)
    try:
        client.check_alive([], timeout=timeout_s)
    except AuthenticationError as error:  # raised for another id, too
        return "InvalidAuthToken" in str(error)
    except RpcError:
        return False  # joining the cluster gives the reason
    return False


def serve_on_loopback() -> None:
    """Have the replicas of Ray Serve listen on the loopback interface: they unpickle what they receive."""
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import replica

    replica.add_port_to_grpc_server = lambda server, _: add_port_to_grpc_server(server, "127.0.0.1:0")


def silence_deprecations() -> None:
    """Silence RLlib's notes to its own developers, logged whenever a module is built."""
    logging.getLogger("ray._common.deprecation").setLevel(logging.ERROR)


def registered_environment(name: str) -> Callable[..., Any] | None:
    """Return the function that creates an environment registered with Tune; None if the name is not."""
    from ray.tune.registry import ENV_CREATOR, _global_registry

    if not _global_registry.contains(ENV_CREATOR, name):
        return None
    creator: Callable[..., Any] = _global_registry.get(ENV_CREATOR, name)
    return creator
