"""How a need is worded: in what script, what it quotes, and whether it speaks of code."""

from __future__ import annotations

import re

from .words import CJK

_CODE = re.compile(
    r"(?i)\b(?:python\d*|code|coding|scripts?|scripting|program(?:s|ming)?|snippets?|algorithms?|functions?|sandbox(?:ed)?|"
    r"interpreter|numpy|pandas|matplotlib|sympy|scipy|stdout|traceback|execut(?:e[sd]?|ing|ion|or)|"
    r"comput(?:e[sd]?|ing|ations?)|calculat(?:e[sd]?|ing|ions?|or))\b|代码|脚本|程序|编程|函数|算法|运行|执行|计算"
)
"""Words of who wants something run or computed."""
_LETTER = re.compile(r"[^\W\d_]")
_QUOTED = re.compile(
    r"```.*?(?:```|$)|`[^`\n]{1,200}`|\"[^\"\n]{1,300}\"|“[^”\n]{1,300}”|‘[^’\n]{1,300}’|「[^」\n]{1,300}」|"
    r"(?<![\w'])'[^'\n]{1,200}'(?!\w)",
    re.DOTALL,
)


def unquoted(need: str) -> str:
    """Give a need without what it quotes, unless that is all of it."""
    text = _QUOTED.sub(" ", need)
    return text if _LETTER.search(text) else need


def is_for_code(need: str) -> bool:
    """Tell whether a need speaks of running code or of computing."""
    return _CODE.search(need) is not None


def is_chinese(text: str) -> bool:
    """Tell whether a text is in Chinese, Japanese or Korean, though names in it may be longer than its words."""
    return 4 * len(CJK.findall(text)) > sum(one.isalpha() for one in text)
