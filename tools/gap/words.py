"""Words by which a task is split into needs: verbs, politeness, connectors, questions; English and Chinese."""

from __future__ import annotations

import re
from functools import lru_cache


def _words(text: str) -> frozenset[str]:
    """Read a list of words, one after the other."""
    return frozenset(text.split())


VERBS = _words(
    """
    add adjust analyse analyze annotate answer append apply approve archive arrange ask assess assign attach
    authenticate automate brainstorm bring browse build buy calculate cancel capture categorize change choose
    classify clean clone close collect combine compile compose compress compute configure confirm connect
    convert copy count crawl create crop decode decrypt delete deliver deploy describe design detect determine
    diagnose disable download draft draw edit enable encode encrypt enter estimate evaluate examine execute
    expand explain explore export extract fetch fill find fix forecast format gather generate geocode get give
    grab highlight identify implement import improve include insert inspect install integrate introduce
    investigate invite keep launch learn locate look make manage measure merge migrate modify monitor move
    navigate notify obtain open optimize organise organize outline parse perform pick play post predict prepare
    present prevent print produce provide publish pull purchase push put query read recommend redirect refactor
    register remind remove rename render rent repeat replace reply reproduce reserve resize resolve respond
    restart restore retrieve return rewrite rotate run save say scan scrape select sell send set setup share
    show simulate solve sort split start stop store submit subscribe suggest sum summarise summarize switch sync
    take teach tell train transcribe transfer transform translate turn uninstall unzip update upgrade upload use
    validate verify view visualise visualize watch write zip
    """
)
"""Verbs that begin a request."""

NOUNS_TOO = _words(
    """
    back backup benchmark bill book call chart chat check compare comment commit contact crawl debug display
    document email filter flag graph group index label link list log mail map mark message monitor name note
    order pay plan plot post preview print process program query rate rebase record report request research
    review schedule score search sign sketch stream study summary tag test text track trade translate tweet vote
    """
)
"""Verbs that are nouns as often; they begin a request only where what follows makes that plain."""

AFTER_VERB = _words(
    """
    a all an and any at back both by each every everyone for from her him his how if in into it its me my on our
    out over some that the their them these this those to two up us what when where whether which who whose with
    your
    """
)
"""Words that follow a verb, and a noun hardly."""

DETERMINERS = _words("a an the my our your this that these those it them all each every")
"""What follows a verb that is in no list, where a request may begin."""

NO_VERBS = _words(
    """
    about above across after against along although among and around as at because been before behind below beneath
    beside besides between beyond but by despite down even except find for from how if in into is it just like maybe
    near not of off on once only onto or out over past per plus rather since so some such than that then there though
    through till to toward under unless until up upon was what when where whereas whether which while who whom whose
    why with within without yes
    """
)
"""Words that are no verbs whatever follows."""

ASKING = _words(
    """
    what how who whom whose which where when why whether
    """
)

POLITE = re.compile(
    r"""(?ix) ^ (?:
      (?:hi|hello|hey|dear|ok|okay|so|well|now|please|pls|kindly|just|also|and|but|then|next|first(?:ly)?|second(?:ly)?
        |third(?:ly)?|last(?:ly)?|finally|afterwards?|subsequently|additionally|moreover|plus|besides)\b [\s,:-]*
      | (?:after\ that|and\ then|in\ addition|upon\ completion|once\ (?:that\ is\ )?done|when\ done) [\s,]+
      | (?:can|could|would|will)\ you (?:\ (?:please|kindly|also|help))* (?:\ me)? (?:\ to)? \s+
      | (?:i|we) (?:'d|\ would)? \ (?:need|want|like|wish|have) (?:\ you)? \ to \s+
      | (?:i|we) (?:'m|'re|\ am|\ are) \ (?:trying|looking|planning|going) \ to \s+
      | (?:i|we) (?:'d|\ would) \ (?:like|appreciate|love) \ (?:some\ |your\ )? (?=help\b)
      | help (?:\ (?:me|us))? (?:\ (?:to|with))? \s+
      | let(?:'s|\ us) \s+
      | i\ was\ wondering\ if\ you\ could \s+
      | (?:my|the|our) \ (?:goal|aim|task) \ is \ to \s+
    )"""
)
"""One polite or joining beginning; taken off as long as there is one."""

REQUEST = re.compile(
    r"(?i)\b(?:please|i plan to|can you|could you|would you|help me|i need|we need|i want|we want|i'd like|"
    r"i would like|i have to|tell me|show me|give me|let me know|looking for|my goal|make sure|remind me|"
    r"need to|want to)\b"
)
"""What makes a request of a sentence that does not begin with a verb."""

QUESTION = re.compile(
    r"(?i)^(?:(?:what|how|who|whom|whose|which|where|when|why)(?:'s|'re)?|is|are|was|were|do|does|did|can|could|will|"
    r"should|has|have)\b"
)

GREETING = re.compile(
    r"(?i)^\W*(?:(?:hi|hello|hey|good (?:morning|afternoon|evening|day))(?:\s+(?:there|all|everyone|team|\w+))?|"
    r"(?:many\s+)?(?:thanks|thank you|thx)(?:\s+(?:so much|very much|a lot|in advance|again))*(?:\s+for\b.*)?|"
    r"please|cheers|(?:kind|best) regards|(?:i )?hope (?:you|this|all)\b.*|"
    r"你好|您好|大家好|谢谢你?|多谢|感谢|非常感谢|辛苦了|麻烦你?了|拜托了?|早上好|下午好|晚上好)\W*$"
)

SHOWING = _words(
    """
    a about all an and any are as at back brief briefly by detailed do done explain final finally finding
    findings for found from give have here i in information insights is it its key know let main me of on our
    output overview present provide report result resulting results say share short should show summarise
    summarize summary tell that the their them these this those to us what with you your data together along
    """
)
"""Words of a clause that only says how to answer: nothing that a tool is needed for."""

STRONG = re.compile(
    r"(?i)\s*(?:[,;]\s*|\s)(?:(?:and|but)\s+)?(?:then|after\s+that|afterwards?|subsequently|and\s+finally|finally,|"
    r"lastly,|followed\s+by)(?:\s*,)?\s+"
)
"""Connectors that put one thing after another."""

WEAK = re.compile(
    r"(?i)\s*,\s*(?:and|but)\s+(?:also\s+)?|\s*,\s*(?:also\s+)?|\s+(?:and|but)\s+(?:also\s+)?|\s+plus\s+"
)
"""Places where another request may begin, if what follows is one."""

ANAPHORA = re.compile(
    r"(?i)\b(?:it|its|this|these|them|they|their|that|those|there|both|each|one|ones)\b|[它这那]|其|他们|她们"
)

PURPOSE = re.compile(
    r"(?i)\b(?:should|must|needs? to|has to)\s+(?:also\s+)?(?:include|contain|cover|provide|have|show)\b"
)
"""A sentence that says what must come of it."""

ZH_VERBS = _words(
    """
    查询 查找 查看 查一下 查 搜索 搜 找出 找到 找 获取 获得 下载 上传 发送 发给 发到 发 写 创建 新建 建立 建
    生成 制作 做成 做 翻译 转换 转成 换算 计算 算 分析 总结 整理 归纳 保存 存 读取 阅读 读 打开 关闭 删除
    更新 修改 编辑 预订 预定 订 购买 买 安排 推荐 比较 对比 绘制 画 提取 合并 压缩 解压 提醒 通知 部署 运行
    执行 测试 监控 抓取 爬取 播放 录制 添加 设置 设定 安装 列出 汇总 告诉 给我 给出 把 将 用 导出 导入 推送
    提交 统计 预测 规划 制定 检查 验证 识别 显示 展示 介绍 解释 评估 选择 截图 看看 看一下 收集 撰写 起草 拍
    复制 移动 重命名 备份 调用 登录 发布 回复 标记 排序 筛选 过滤 输出 放到 放进 写入 转发 估算 诊断 优化
    """
)
"""Chinese verbs that begin a request."""

_ZH_NOUNS = {
    "发": "票现展明生",
    "算": "法",
    "写": "字作",
    "读": "者",
    "画": "家展",
    "建": "筑议",
    "买": "家方",
    "订": "单",
    "存": "款储在",
    "用": "户",
    "将": "来军",
    "拍": "卖",
    "把": "手",
}
"""What makes a noun of a verb of one character when it follows it."""

_ZH_VERB = "|".join(
    f"{verb}(?![{_ZH_NOUNS[verb]}])" if verb in _ZH_NOUNS else verb
    for verb in sorted(ZH_VERBS, key=lambda verb: (-len(verb), verb))
)

ZH_POLITE = re.compile(
    r"^(?:请问|请你?|麻烦你?|拜托你?|你能不能|能不能|能否|可以|可不可以|你能|帮我|帮忙|替我|为我|给我|我想要?|我要|我需要你?|需要|"
    r"首先|其次|然后|接着|之后|随后|最后|另外|此外|并且|同时|而且|以及|还要|还有|还|也|再|并|先|就|，|、|：|\s)"
)

ZH_JOINT = re.compile(
    rf"\s*[，,]?\s*(?:然后再?|接着再?|之后再?|随后再?|并且|最后再?|另外|此外|同时)\s*[，,]?\s*|"
    rf"\s*[，,]\s*(?:再|并|还要|也要?|还)\s*(?=请|帮|{_ZH_VERB})|"
    rf"\s*[，,]\s*(?=请|麻烦|帮我|{_ZH_VERB})|"
    rf"(?<=[^\s，,])(?:并|再)(?={_ZH_VERB})"
)
"""Places where a Chinese request ends and another begins."""

ZH_REQUEST = re.compile(rf"请|帮|麻烦|想|需要|要|能否|能不能|可以|{_ZH_VERB}")
ZH_QUESTION = re.compile(r"什么|怎么|如何|多少|哪|谁|几|吗|呢|是否|为何|为什么")
ZH_CONTEXT = re.compile(
    r"^(?:我|我们|本人|公司)(?:是|在|有|的|们|正在|目前|最近|刚)(?!.*(?:请|帮|想|需要|要|能否))"
)
CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


@lru_cache(maxsize=1024)
def base(word: str) -> str | None:
    """Give the verb that a gerund is of; `None` if it is of none that is known."""
    if len(word) > 30 or not word.endswith("ing"):
        return None
    stem = word[:-3]
    for verb in (stem, f"{stem}e", stem[:-1] if stem[-1:] == stem[-2:-1] else ""):
        if verb in VERBS or verb in NOUNS_TOO:
            return verb
    return None
