"""What the own tool does that explains the policy."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..tools.caller import CALL, MANAGE, OWNER, Caller
from ..tools.names import OWN_PREFIX, OWN_SERVER
from ..tools.outcome import Outcome, RefusalError
from ..tools.policy.explaining import Explained, explained
from ..tools.policy.policy import Policy, subject_of
from ..tools.policy.rule import (
    FIGURES,
    LISTENERS,
    READS,
    Action,
    Limit,
    Rule,
    Selector,
    Subject,
    said,
    told_listener,
)
from ..tools.sight import CURRENT, unseen
from . import models_policy as m
from .call import Call
from .policy_judging import names_of
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.tool import Tool
    from .home import Home
    from .policy_home import PolicyHome
    from .toolset import ToolSet

_NETWORK = ("token", "anyone")


class PolicyTools:
    """The own tool about the policy.

    Args:
        policy: The policy.
        toolset: What it is about.
        home: Where the tokens are.
    """

    def __init__(self, policy: PolicyHome, toolset: ToolSet, home: Home) -> None:
        self._policy = policy
        self._toolset = toolset
        self._home = home
        self.handlers: dict[str, Handler] = {"explain_policy": self._explain}

    async def _explain(self, args: m.ExplainPolicyArguments, call: Call) -> m.ExplainPolicyResult:
        caller, may = call.caller, MANAGE in call.caller.rights
        asked = [one for one in (args.tool, args.server, args.source) if one is not None]
        if len(asked) > 1:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, "Give one of tool, server and source.")
        about = self._about(args, caller)
        if about is not caller and not may:
            raise RefusalError(
                Outcome.REFUSED,
                f"'{caller.principal}' may ask what holds for itself only: leave client and listener out.",
            )
        policy, file = self._policy.gate.policy, self._policy.file
        told: dict[str, Any] = {
            "client": about.principal,
            "listener": told_listener(about.listener),
            "since": None
            if file.since is None
            else datetime.fromtimestamp(file.since, UTC).isoformat(timespec="seconds"),
        }
        if may:
            told.update(file=str(file.path), problems=list(file.problems))
        if not asked:
            return m.ExplainPolicyResult(
                explained=self._whole(policy), **told, **self._rules(policy, may=may)
            )
        return self._decided(args, about, policy, told, may=may)

    def _about(self, args: m.ExplainPolicyArguments, caller: Caller) -> Caller:
        """Give the caller that is meant: who asks, unless another one is named."""
        if args.client in (None, caller.principal) and args.listener is None:
            return caller
        name = args.client or caller.principal
        if args.listener is not None:
            listener = LISTENERS[args.listener]
        else:
            listener = caller.listener if name == caller.principal else "unix" if name == "owner" else "ws"
        if name == caller.principal and listener == caller.listener:
            return caller
        return Caller(name, listener, rights=self._rights(name) or frozenset())

    def _rights(self, name: str) -> frozenset[str] | None:
        """Give what a client may do at the most; `None` if there is none of that name."""
        from .private_file import PrivateFileError
        from .tokens import Tokens

        if name == "owner":
            return OWNER.rights
        if name in _NETWORK:
            return self._policy.network_rights
        try:
            tokens = self._toolset.tokens or Tokens(self._home, frozenset())
            named = {one.name: one.rights for one in tokens.named()}
        except PrivateFileError:
            return None
        return named.get(name)

    def _decided(
        self,
        args: m.ExplainPolicyArguments,
        about: Caller,
        policy: Policy | None,
        told: dict[str, Any],
        *,
        may: bool,
    ) -> m.ExplainPolicyResult:
        action: Action = args.action or ("install" if args.source is not None else "call")
        if (action == "install") != (args.source is not None):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS, "install goes with a source, and a source with install."
            )
        if action == "manage" and args.tool is not None:
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS, "manage is about a server: give that instead of a tool."
            )
        subject, tool = self._subject(args)
        found = Explained(None)
        if policy is not None:
            found = explained(policy, action, about.principal, about.listener, subject)
        if not may:  # what else a rule names, and rules about others, may be what a client is not to know of
            found = replace(found, because="it fits", passed=())
        narrowed, possible = self._narrowed(action, about, subject, tool, args, found)
        answer = "deny" if not possible else found.answer or "allow"
        return m.ExplainPolicyResult(
            **told,
            action=action,
            subject=str(subject),
            answer=answer,
            explained=_sentence(about, action, subject, found, policy),
            rule=found.rule,
            line=found.line,
            why=found.why or None,
            passed=list(found.passed),
            limits=list(found.limits),
            narrowed=narrowed,
        )

    def _subject(self, args: m.ExplainPolicyArguments) -> tuple[Subject, Tool | None]:
        if args.source is not None:
            return Subject(source=names_of(args.source.strip())[0]), None
        if args.server is not None:
            if (hidden := unseen(self._toolset.library, args.server)) is not None:
                raise hidden
            return Subject(args.server, hints=said(READS)), None
        name = args.tool or ""
        own = self._toolset.tools.get(name.removeprefix(OWN_PREFIX))
        sight = CURRENT.get()
        if own is not None:
            full = f"{OWN_PREFIX}{own.name}"
            if sight is not None and not sight.named(full, OWN_SERVER):
                raise self._toolset.router.lookup.unknown(name)
            return Subject(OWN_SERVER, full, said(own.hints)), None
        tool = self._toolset.library.tools.get(name)
        if tool is None and "__" in name and sight is None:  # it may be installed later
            return Subject(name.partition("__")[0], name, said({})), None
        tool = self._toolset.router.lookup.find(name)
        return subject_of(tool), tool

    def _narrowed(
        self,
        action: Action,
        about: Caller,
        subject: Subject,
        tool: Tool | None,
        args: m.ExplainPolicyArguments,
        found: Explained,
    ) -> tuple[list[str], bool]:
        """Tell what else stands in the way of a client, and whether it may do it at all."""
        notes, possible, name = [], True, about.principal
        rights = about.rights
        if about.connection == 0 and name != "owner" and self._rights(name) is None:
            notes.append(f"there is no token named '{name}' now, so nobody comes in by that name")
            rights = frozenset({CALL})
        if action in ("call", "see") and CALL not in rights and subject.server != OWN_SERVER:
            possible = action == "see" and bool(rights)
            notes.append(f"'{name}' has not the right to call")
        if action in ("install", "manage", "approve") and MANAGE not in rights:
            if CALL not in rights:
                possible = False
                notes.append(f"'{name}' has neither the right to call nor to manage")
            elif not found.grants:
                notes.append(
                    f"'{name}' has not the right to manage: a person at its client is asked, and it is refused where "
                    "nobody can be"
                )
            else:
                more = (
                    ", as it is: with args, env, headers or packages a person is asked all the same"
                    if action == "install"
                    else ""
                )
                notes.append(f"'{name}' has not the right to manage; the rule grants it for this{more}")
        library = self._toolset.library
        row = library.servers.get(subject.server)
        if args.tool is not None and tool is None and subject.server != OWN_SERVER:
            notes.append(
                "there is no such tool now: it is judged by its name, with the defaults of its annotations"
            )
        if row is not None and not row.enabled:
            notes.append(f"server '{subject.server}' is disabled")
        if tool is not None and (held := self._held(tool, about)) is not None:
            notes.append(held)
            possible = possible and action != "call"
        return notes, possible

    def _held(self, tool: Tool, about: Caller) -> str | None:
        """Tell why another guard does not let a tool be called; `None` if none says at once that it does not."""
        from ..tools.passage import Passage

        for guard in self._toolset.router.guards:
            if guard is self._policy.gate:
                continue
            passage = Passage(
                "tools/call",
                tool.server,
                tool.name,
                {},
                replace(about, connection=0),
                None,
                None,
                0.0,
                tool=tool,
            )
            waiting = None
            try:
                waiting = guard.admit(passage)
            except RefusalError as refusal:
                return f"{refusal.outcome}: {refusal.message}"
            finally:
                if isinstance(waiting, Coroutine):
                    waiting.close()
                passage.end()
        return None

    def _whole(self, policy: Policy | None) -> str:
        if policy is None:
            return "There is no policy: rights alone decide. `toolscore policy template` prints one to begin with."
        count = f"{len(policy.rules)} rules and {len(policy.limits)} limits"
        return f"The policy has {count}; the first rule that fits decides."

    def _rules(self, policy: Policy | None, *, may: bool) -> dict[str, Any]:
        if policy is None or not may:
            return {}
        return {
            "rules": [_rule(rule) for rule in policy.rules],
            "all_limits": [_limit(limit) for limit in policy.limits],
        }


def _sentence(
    about: Caller, action: Action, subject: Subject, found: Explained, policy: Policy | None
) -> str:
    what = f"'{about.principal}' over {told_listener(about.listener)}: {action} {subject}"
    if found.answer is None:
        why = "there is no policy" if policy is None else "no rule fits"
        return f"{what}: {why}, so it is as the rights of the client have it."
    lead = {"allow": "allowed", "deny": "denied", "ask": "allowed once a person agrees"}[found.answer]
    return f"{what}: {lead} by rule {found.rule} (line {found.line}), as {found.because}."


def _selected(selector: Selector) -> dict[str, Any]:
    told = {
        "who": selector.who,
        "listener": tuple(told_listener(one) for one in selector.listeners),
        "servers": selector.servers,
        "tools": selector.tools,
        "hints": selector.hints,
        "sources": selector.sources,
    }
    return {name: list(value) for name, value in told.items() if value}


def _rule(rule: Rule) -> dict[str, Any]:
    told: dict[str, Any] = {"number": rule.number, "line": rule.line, "answer": rule.answer}
    if rule.written:
        told["what"] = list(rule.written)
    told.update(_selected(rule.selector))
    if rule.grant:
        told["grant"] = True
    if rule.remember:
        told["remember"] = "session"
    if rule.why:
        told["why"] = rule.why
    return told


def _limit(limit: Limit) -> dict[str, Any]:
    figures = {name: value for name in FIGURES if (value := getattr(limit, name)) is not None}
    return {"number": limit.number, "line": limit.line, **_selected(limit.selector), **figures}
