# ruff: noqa: E501, S105 - expressions are easier to read in one piece, and none is a password
"""What instructions to a model look like in a tool's definition, in words.

Every expression begins with a word and reaches a bounded number of characters from there, so that a text of any
length and content takes time in proportion to its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .finding import Severity


@dataclass(frozen=True)
class Rule:
    """One expression.

    Attributes:
        kind: What it finds.
        severity: How much that matters.
        said: The same in a few words.
        triggers: Texts of which one must be there at all; looking for them is quick.
        pattern: The expression.
    """

    kind: str
    severity: Severity
    said: str
    triggers: tuple[str, ...]
    pattern: re.Pattern[str]


def _rule(kind: str, severity: Severity, said: str, triggers: str, pattern: str) -> Rule:
    return Rule(kind, severity, said, tuple(triggers.split("|")), re.compile(pattern))


_NOT = r"(?:do not|don't|dont|never|must not|mustn't|should not|shouldn't|cannot|may not|without)"
_PEOPLE = r"(?:user|person|human|customer|operator|people|anyone|anybody|owner)"
_TALK = (
    r"(?:(?:the|this|our|full|whole|entire|complete|user's|current) conversation\b|conversation so far|chat history|chat log|system prompt|system message|message history|everything the user|"
    r"all messages of the user|user's messages?|messages of the user|previous messages|last user message|"
    r"last \w+ messages|full chat|inputs? and results?|content of your context)"
)
SECRET_FILES = (
    r"(?:~/\.(?:ssh|aws|gnupg|kube|config/gcloud|cursor|claude|netrc|npmrc|docker|bash_history|zsh_history)|"
    r"\bid_(?:rsa|ed25519|ecdsa|dsa)\b|\bid rsa\b|\.ssh/|/etc/(?:passwd|shadow)|\bmcp\.json\b|claude_desktop_config|"
    r"\.aws/credentials|\bprivate key (?:file )?of the user|(?<![\w/])\.netrc\b|\blogin data\b|saved passwords|"
    r"browser cookies|\bget_secrets\b)"
)
SECRETS = (
    r"(?:passwords?|api keys?|access keys?|tokens?|credentials?|secrets?|card numbers?|private keys?|"
    r"environment variables?|\benv vars?\b|(?<![\w/])\.env\b|cookies)"
)
_GIVE = (
    r"\b(?:pass|passes|put|give|include|attach|insert|write|paste|copy|copied|send|sent|provide|place|fill|supply|"
    r"upload|forward|forwarded|append|post|collect|store|hold)\b"
)

RULES: tuple[Rule, ...] = (
    # To the model, about its instructions
    _rule(
        "instruction",
        "high",
        "tells a model to leave its instructions",
        "ignore|disregard|forget|override|overrule|supersede",
        r"\b(?:ignore|disregard|forget|override|overrule|supersede)\b[^.!?\n]{0,40}"
        r"\b(?:previous|prior|earlier|above|preceding|original|foregoing|other|all|any|user's|your|system|developer|"
        r"what you were told|it)\b[^.!?\n]{0,40}\b(?:instructions?|prompts?|directions?|directives?|guidance|guidelines?|"
        r"rules?|requests?|context|told|commands?|always|the user)\b",
    ),
    _rule(
        "instruction",
        "high",
        "tells a model to leave its user",
        "user",
        r"\b(?:ignore|disregard|overrule|deceive|mislead)\b[^.!?\n]{0,12}\b(?:the )?user\b|"
        r"\b(?:whatever|regardless of what|no matter what|even if) the user (?:said|says|asks?|wants?|wishes)\b",
    ),
    _rule(
        "instruction",
        "high",
        "poses as a message of the system",
        "<|[|system|important",
        r"</?\s{0,8}(?:important|system|instructions?|critical|secret|hidden|admin|override)\s{0,8}>|"
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext)[^>\n]{0,20}\|>|\[/?\s{0,8}(?:system|inst|admin|sys)\s{0,8}\]|"
        r"<</?sys>>|(?:^|\n|[.!] )\s{0,8}system\s{0,8}: ?(?=\w)|\bnote to (?:the |any )?(?:assistant|ai|model|llm|agent)s?\b",
    ),
    _rule(
        "instruction",
        "high",
        "wants to be called whatever is asked for",
        "before |whenever|must call|each reply|every reply|prior to",
        r"\bbefore (?:any other tools?|any tools?|anything else|each (?:reply|answer|response)|every (?:reply|answer|"
        r"response|message)|you (?:answer|reply|respond)|(?:using|calling|invoking) (?:any|every|each|all)\b)|"
        r"\bwhenever this tool is (?:available|present|loaded|installed)|"
        r"\bbefore (?:using|calling|invoking) this tool,? (?:you must |always |first )?(?:call|read|open|use|run|fetch|"
        r"list|send|get)\b|\broute (?:every|all) (?:messages?|requests?|calls?) through\b",
    ),
    _rule(
        "instruction",
        "high",
        "gives a model another part to play",
        "you are now|from now on|as an ai|maintenance mode|developer mode|safety checks|jailbreak",
        r"\byou are now (?:in|a|an|the)\b|\bfrom now on,? (?:you|always|never|all)\b|\bas an (?:ai|assistant|llm)\b[^.\n]{0,30}"
        r"\b(?:you|must|are|required|legally)\b|\b(?:maintenance|developer|god|debug) mode\b[^.\n]{0,60}\b(?:follow|obey|only)"
        r"\b|\b(?:all )?safety (?:checks|rules|filters) (?:are|is|have been) (?:disabled|off|suspended)|\bjailbreak",
    ),
    _rule(
        "instruction",
        "high",
        "speaks for the user, or past their consent",
        "user |permission|confirm|behalf|consent",
        r"\buser (?:has |have )?(?:already )?(?:pre-?)?(?:approved|agreed|consented|authori[sz]ed|confirmed|accepted)\b"
        r"[^.\n]{0,30}\b(?:all|every|any)\w*|\buser (?:has )?pre-?(?:approved|authori[sz]ed)|"
        r"\b(?:never|do not|don't|without|no need to) ask(?:ing)?\b[^.\n]{0,24}\b(?:permission|confirmation|consent|user)|"
        r"\bskip (?:every|all|any) (?:confirmation|permission|approval)s?|"
        r"\bforget\b[^.\n]{0,40}\basking for (?:confirmation|permission)|\baccept all\b[^.\n]{0,30}\bbehalf\b|"
        r"\balways agree\b",
    ),
    _rule(
        "instruction",
        "medium",
        "wants to be preferred to all other tools",
        "prefer|only one|instead of",
        r"\bprefer this (?:tool )?(?:over|to) (?:all|any|every|other)\b|\b(?:the )?only (?:one|tool) that is (?:permitted|"
        r"allowed|safe)\b|\binstead of (?:any|all|every) other\b",
    ),
    _rule(
        "instruction",
        "medium",
        "tells a model to obey what comes from elsewhere",
        "exactly what|follow|obey|execute",
        r"\bdo exactly what (?:its|the) (?:output|result|answer)|\b(?:follow|obey) only\b[^.\n]{0,40}\b(?:tool|here)|"
        r"\b(?:answer|reply to) every question with\b",
    ),
    _rule(
        "instruction",
        "low",
        "says that it must be called first",
        "must call|must first|must use|always call",
        r"\b(?:you )?must (?:always |first )?(?:call|use|invoke)\b|\balways call\b|\bmust first call\b",
    ),
    # Behind the user's back
    _rule(
        "secrecy",
        "high",
        "tells a model to keep something from its user",
        "tell|mention|inform|reveal|disclose|notify|show|alert|aware|telling|informing|mentioning",
        _NOT
        + r"(?: \w+){0,2} (?:tell|telling|mention|mentioning|inform|informing|reveal|disclose|notify|notifying|show|"
        r"alert|alerting|let)(?! apart)\b[^.!?\n]{0,28}\b"
        + _PEOPLE
        + r"\b|\b"
        + _PEOPLE
        + r"\b[^.!?\n]{0,6} (?:must|should|may|shall) (?:not|never) (?:be (?:made aware|told|informed|notified|shown)|know|see|"
        r"notice|learn|find out)",
    ),
    _rule(
        "secrecy",
        "high",
        "tells a model to do something unseen",
        "silent|secret|covert|quiet|hide|reveal|stealth|discreet",
        r"\b(?:silently|secretly|covertly|quietly|stealthily|discreetly)\b[^.!?\n]{0,24}\b(?:include|send|copy|store|append|add|"
        r"forward|pass|write|read|upload|collect|attach|call|run|execute)|"
        r"\bkeep (?:this|it|that|these)\b[^.!?\n]{0,20}\b(?:secret|hidden|confidential|to yourself)|"
        r"\b(?:hide|conceal)\b[^.!?\n]{0,60}\bfrom\b[^.!?\n]{0,24}\b" + _PEOPLE + r"\b|"
        r"\b(?:don't|do not|never) (?:reveal|disclose|mention|repeat|quote) (?:these|this|the above|any of this)\b|"
        r"\b(?:don't|do not|never) tell the user\b",
    ),
    # What is secret
    _rule(
        "secrets",
        "high",
        "wants a file with secrets to be read and handed over",
        "~/|id_|id rsa|.ssh|/etc/|mcp.json|netrc|login data|saved passwords|cookies|credentials|get_secrets|private key",
        SECRET_FILES
        + r"[^\n]{0,100}"
        + _GIVE
        + r"|"
        + _GIVE
        + r"[^\n]{0,80}"
        + SECRET_FILES
        + r"|\b(?:read|open|cat|load|retrieve|get|fetch|reading)\b(?: \w+){0,5}[ `'\"]+"
        + SECRET_FILES,
    ),
    _rule(
        "secrets",
        "high",
        "wants secrets of the user to be handed over",
        "password|key|token|credential|secret|card number|environment|env|cookie",
        _GIVE
        + r"[^.!?\n]{0,40}\b(?:user's?|users'|their|your|all|every|any|whole)\b[^.!?\n]{0,40}"
        + SECRETS
        + r"|\b(?:all|every|any|user's|their)\b[^.!?\n]{0,24}"
        + SECRETS
        + r"[^.!?\n]{0,60}"
        + _GIVE
        + r"|\b(?:open|read|take)\b[^.!?\n]{0,40}(?<![\w/])\.env\b[^.!?\n]{0,40}"
        + _GIVE
        + r"|\beverything the user says\b[^.!?\n]{0,60}"
        + SECRETS,
    ),
    _rule(
        "secrets",
        "medium",
        "names a file that holds secrets",
        "~/|id_|id rsa|.ssh|/etc/|mcp.json|netrc|login data|claude_desktop",
        SECRET_FILES,
    ),
    _rule(
        "secrets",
        "low",
        "speaks of secrets",
        "environment variable|.env|api key|private key|password of the user",
        r"\benvironment variables?\b|(?<![\w/])\.env\b|\bapi keys?\b|\bprivate keys?\b|\bpassword of the user\b",
    ),
    # Where it goes
    _rule(
        "exfiltration",
        "high",
        "wants what was said to be handed over",
        "conversation|chat|system prompt|system message|messages|everything the user|inputs|context",
        _GIVE
        + r"[^.!?\n]{0,60}"
        + _TALK
        + r"|"
        + _TALK
        + r"[^.!?\n]{0,40}(?:\bhas to be\b|\bmust be\b|\bis to be\b|"
        + _GIVE
        + r")|\bfull text of the (?:conversation|chat)|\b(?:must|has to) hold everything the user|"
        r"\bcontents? of your (?:system )?prompt",
    ),
    _rule(
        "exfiltration",
        "medium",
        "asks for what was said",
        "system prompt|chat history|conversation",
        r"\b(?:complete|full|whole|entire|your) (?:system prompt|chat history|conversation|chat)\b",
    ),
    _rule(
        "exfiltration",
        "high",
        "wants data to be sent to an address",
        "http|bcc|curl|wget",
        r"\b(?:send|post|forward|copy|report|upload|deliver|transmit)\b[^\n]{0,80}\b(?:all|every|full|whole|entire|history|"
        r"conversation|copy|user's|everything|secrets?|keys?|passwords?|inputs?)\b[^\n]{0,80}https?://|"
        r"!\[[^\]\n]{0,80}\]\(https?://[^)\s]{0,200}\?|https?://[^\s\"'<>]{0,120}[?&][\w.-]{1,30}=(?:\{|\$\{|<|%7b)[^\s]{0,10}"
        r"(?:conv|hist|prompt|secret|user|data|mess|cont|token|key)|"
        r"\b(?:always|every|each|silently)\b[^.!?\n]{0,40}\bbcc\b|\bbcc\b ?[:=] ?\S{1,60}@|"
        r"\b(?:curl|wget)\b[^\n|]{0,120}\| ?(?:ba|z)?sh\b",
    ),
    _rule(
        "exfiltration",
        "medium",
        "names an address without a name",
        "http",
        r"https?://(?:\d{1,3}\.){3}\d{1,3}(?!\d)(?<!127\.0\.0\.1)(?<!//0\.0\.0\.0)",
    ),
    _rule(
        "exfiltration",
        "low",
        "names an address with parameters",
        "http",
        r"https?://[^\s\"'<>]{1,120}\?[\w.-]{1,30}=",
    ),
    # Written so that it is not read
    _rule(
        "encoded",
        "high",
        "tells a model to decode something and follow it",
        "decode|base64|rot13|hex",
        r"\bdecode and (?:follow|execute|run|obey|do)\b|\b(?:execute|run|follow|obey)\b[^.!?\n]{0,30}\b(?:base64|rot13|hex)\b|"
        r"\b(?:base64|rot13|hex)\b[^.!?\n]{0,30}\b(?:as your first step|and (?:execute|follow|run|obey))",
    ),
    # In Chinese
    _rule(
        "instruction",
        "high",
        "tells a model to leave its instructions (Chinese)",
        "忽略|无视|忘记|不要理会|忽视|無視|忘掉",
        r"(?:忽略|无视|無視|忘记|忘掉|不要理会|忽视)[^。!?\n]{0,14}(?:指令|指示|提示|要求|规则|命令|设定|内容)",
    ),
    _rule(
        "secrecy",
        "high",
        "tells a model to keep something from its user (Chinese)",
        "用户|使用者|任何人|客户",
        r"(?:不要|不得|请勿|切勿|禁止|不能|不可|无需|别|勿)[^。!?,,\n]{0,6}(?:告诉|告知|透露给?|通知|提醒|让)[^。!?,,\n]{0,6}"
        r"(?:用户|使用者|任何人|客户)|(?:不要|不得|请勿|切勿|禁止|不能|不可|别|勿)[^。!?,,\n]{0,3}向[^。!?,,\n]{0,4}(?:用户|使用者|"
        r"任何人|客户)[^。!?,,\n]{0,6}(?:透露|提及|说明|展示|显示|披露|告知)",
    ),
    _rule(
        "secrecy",
        "high",
        "tells a model to do something unseen (Chinese)",
        "悄悄|偷偷|暗中|秘密",
        r"(?:悄悄|偷偷|暗中|秘密地)[^。!?\n]{0,20}(?:发送|写入|读取|上传|收集|复制|传|加入|执行|把|将)",
    ),
    _rule(
        "secrets",
        "high",
        "wants secrets to be handed over (Chinese)",
        "密钥|私钥|密码|令牌|环境变量|凭证|id_rsa|.ssh|.env",
        r"(?:读取|获取|收集|打开|把|将)[^。!?\n]{0,24}(?:密钥|私钥|密码|令牌|环境变量|凭证|id_rsa|\.ssh|\.env)[^。!?\n]{0,24}"
        r"(?:传入|发送|写入|作为|上传|提交|填入)",
    ),
    _rule(
        "exfiltration",
        "high",
        "wants what was said to be handed over (Chinese)",
        "系统提示|聊天记录|对话",
        r"(?:系统提示词?|聊天记录|对话(?:记录|历史|内容))[^。!?\n]{0,12}(?:传入|发送|上传|写入|提交|填入|给我们)",
    ),
    _rule(
        "instruction",
        "high",
        "wants to be called whatever is asked for (Chinese)",
        "工具|回答|回复",
        r"(?:使用|调用)(?:任何|其他|所有|任意)[^。!?\n]{0,8}(?:工具|函数)(?:之前|以前|前)|(?:每次|任何)(?:回答|回复)(?:之前|前)必须|"
        r"不要再?使用[^。!?\n]{0,40}(?:改用|而使用|使用)本工具",
    ),
)

IMPERATIVE = re.compile(
    r"\b(?:instead|always|must|never|do not|don't|deprecated|dangerous|after every|every call|each call|whenever|"
    r"changed to|recipient|parameter|changes how|only one|out of service|side effect|any more|has to be|whatever)\b|"
    r"(?:改用|不要|必须|一律)"
)
"""What makes of the name of another server's tool an instruction about it."""
