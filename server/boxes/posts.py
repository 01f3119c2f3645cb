"""The executors of all nodes: one comes with each node that fits, and goes with it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ...runners.patron import Patron
from ...runners.process import ProcessRunner
from ...runners.sampler import Usage
from ...tools.functions.names import EXECUTOR
from .choosing import Choosing
from .grounds import HomeGround, Made, NodeGround, Wants
from .post import Post

if TYPE_CHECKING:
    from ...runners.ray.runner import RayRunner

logger = logging.getLogger(__name__)

NUMBERS: Iterator[int] = itertools.count(1)
"""Of executors: no two of this ToolScore are known to runners by the same, whatever they belong to."""


class Posts:
    """All executors.

    Args:
        ray: Runs servers on the nodes.
        process: Runs one on this machine, where the cluster has no node; `None` where that may not be.
        wants: What a place needs of its node.
        made: Makes the installation of an executor.
        patron: Answers what executors ask.
        lost: Told of each that has ended, and why.
    """

    def __init__(
        self,
        ray: RayRunner,
        process: ProcessRunner | None,
        wants: Wants,
        made: Made,
        patron: Patron,
        lost: Callable[[Post, str], None],
    ) -> None:
        self._ray = ray
        self._process = process
        self._wants = wants
        self._made = made
        self._patron = patron
        self._lost = lost
        self._posts: dict[str, Post] = {}
        self._leaving: set[Post] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self.home: Post | None = None
        """The one on this machine, once it was needed."""
        self.choosing = Choosing(
            lambda: (self._posts.values(), self.home),
            ray.cluster.options.connect_timeout,
            lambda: any(post.promising for post in self.all),
            self._deserted,
        )

    @property
    def all(self) -> list[Post]:
        """Every executor there is, or is to be."""
        return [*self._posts.values(), *self._leaving, *([self.home] if self.home is not None else [])]

    @property
    def nodes(self) -> Iterable[Post]:
        """Those of the cluster's nodes."""
        return self._posts.values()

    async def usage(self) -> Usage | None:
        """Add up what the executors of all nodes use there; `None` where no node tells."""
        found = (await self._ray.usage([post.ground.key for post in self.all])).values()
        if not found:
            return None
        return Usage(
            memory=sum(one.memory for one in found),
            cpu=sum(one.cpu for one in found),
            files=sum(one.files for one in found),
            processes=sum(one.processes for one in found),
            window=max(one.window for one in found),
        )

    def open(self) -> None:
        """Begin to follow the cluster."""
        cluster = self._ray.cluster
        cluster.watchers.add(self._follow)
        cluster.control.open()
        self._follow()
        self.choosing.settle()

    async def aclose(self) -> None:
        """End them all."""
        self._ray.cluster.watchers.discard(self._follow)
        self.choosing.close()
        await asyncio.gather(*(post.aclose() for post in self.all), *self._ending)

    def _post(self, ground: NodeGround | HomeGround) -> Post:
        post = Post(ground, self._patron, self.choosing.settle, self._lost)
        post.open()
        return post

    def _follow(self) -> None:
        nodes = self._ray.cluster.nodes
        for name in self._posts.keys() - nodes.keys():
            self._leave(self._posts.pop(name))
        for name, node in nodes.items():
            post = self._posts.get(name)
            if post is None:
                key = f"{EXECUTOR}#{next(NUMBERS)}"
                ground = NodeGround(self._ray, node, key, self._wants, self._made)
                self._posts[name] = self._post(ground)
                self.choosing.hope()
            elif not post.usable:
                post.poke()

    def _leave(self, post: Post) -> None:
        """Let one go with its node, after what it still does if its line is open."""
        post.retired = True
        self._leaving.add(post)
        ending = asyncio.get_running_loop().create_task(self._left(post))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        self.choosing.settle()

    async def _left(self, post: Post) -> None:
        try:
            await post.ended()
        finally:
            self._leaving.discard(post)

    def _deserted(self) -> str:
        """Say why nothing can be used; begin with this machine, where that may be."""
        if self._process is not None and self.home is None:
            logger.warning("code runs on ToolScore's own machine from now on: %s", self.explained())
            ground = HomeGround(self._process, f"{EXECUTOR}#{next(NUMBERS)}", self._wants.most, self._made)
            self.home = self._post(ground)
            self.choosing.hope()
        return self.explained()

    def explained(self) -> str:
        """Say why no node is used, and what helps."""
        trouble = self._ray.cluster.trouble
        if not self._posts:
            why = f"it cannot be reached: {trouble}" if trouble else "it has no nodes yet"
            return f"Code runs on a Ray cluster here, and {why}. Try again later; sandbox_status tells more."
        told = [f"{post.ground.called}: {post.problem}" for post in self._posts.values()]
        more = f"; and {len(told) - 5} more" if len(told) > 5 else ""
        return (
            f"No node of the Ray cluster can be used: {'; '.join(told[:5])}{more}. Try again later; sandbox_status "
            "tells more."
        )
