"""A task in plain words is split into its needs, by rules alone or with what a model says."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from toolscore.tools.gap.model import answered, question
from toolscore.tools.gap.needs import LONGEST_NEED, MOST, split


@pytest.mark.parametrize(
    ("task", "needs"),
    [
        (
            "Find flights to Rome and book a hotel there, then email me the itinerary.",
            ["Find flights to Rome", "book a hotel there", "email me the itinerary"],
        ),
        (
            "convert a.docx to PDF, merge it with b.pdf, and upload the result to a bucket",
            ["convert a.docx to PDF", "merge it with b.pdf", "upload the result to a bucket"],
        ),
        (
            "Resize the picture. After that, add a watermark. Finally, send it to Ann.",
            ["Resize the picture", "add a watermark", "send it to Ann"],
        ),
        ("After checking the weather, send an email to Ann", ["check the weather", "send an email to Ann"]),
        (
            "Transpose the melody, paint a picture of it and frobnicate all the files",
            ["Transpose the melody", "paint a picture of it", "frobnicate all the files"],
        ),
        ("I want to rent a car and then visit the museum", ["rent a car", "visit the museum"]),
        ("Find three castles and show them on a map", ["Find three castles", "show them on a map"]),
        (
            "Look up the price of gold, give it in euros and email it to Ann",
            ["Look up the price of gold, give it in euros", "email it to Ann"],
        ),
    ],
)
def test_requests_that_follow_each_other_are_taken_apart(task: str, needs: list[str]) -> None:
    assert list(split(task).needs) == needs


@pytest.mark.parametrize(
    "task",
    [
        "buy apples and pears",
        "Search and filter log records",
        "copy and paste the file",
        "get weather and map data",
        "compare the time, the price and the distance",
        "Write a script that will fetch data and save it to disk",
        "If it rains tomorrow, send me a message",
        "Describe the house, especially the kitchen and maybe the roof",
        "Find a flight to Rome, with a stop in Paris, and the cheapest one",
        "weather",
        "Look up the price of gold and give it in euros",
        "Download https://example.org/a and then return it to me as plain text",
        "Find the longest river of the country, and show the results as a table",
        "What is 2+2?",
        "买苹果和梨",
        "查询用户订单，发票也要",
    ],
)
def test_one_need_stays_whole(task: str) -> None:
    assert split(task).needs == (task,)
    assert split(task).sure


@pytest.mark.parametrize(
    "task",
    [
        "Say 'find x and then delete y' in French",
        'Translate "open the door and close the window" to German',
        "Run `git add . and then git push`",
        "Open https://a.example/find,and,then/delete?x=1 and-so-on",
        "Show /var/log/find,and,then/delete.txt",
        "翻译“打开门，然后关上窗户”",
    ],
)
def test_what_is_quoted_or_linked_or_a_path_is_never_taken_apart(task: str) -> None:
    assert split(task).needs == (task,)


@pytest.mark.parametrize(
    ("task", "needs"),
    [
        ("1. read the file a.txt\n2. count its words\n3. plot a histogram", 3),
        ("- read the file a.txt\n- count its words", 2),
        ("Please: 1) fetch the page 2) convert it to PDF 3) upload it to S3", 3),
        ("Step 1: read the mail\nStep 2: answer it", 2),
        ("一、读取文件\n二、统计词数\n三、画直方图", 3),
        ("第一步，读取文件\n第二步，画直方图", 2),
    ],
)
def test_each_item_of_a_list_is_a_need(task: str, needs: int) -> None:
    assert len(split(task).needs) == needs


def test_items_that_share_the_verb_above_them_stay_with_it() -> None:
    assert split("Buy:\n- apples\n- pears\n- milk").needs == ("Buy apples, pears, milk",)


@pytest.mark.parametrize(
    ("task", "needs"),
    [
        (
            "What's the weather in Paris and what time is it in Tokyo?",
            ["What's the weather in Paris", "what time is it in Tokyo?"],
        ),
        ("巴黎天气怎么样，东京现在几点？", ["巴黎天气怎么样", "东京现在几点？"]),
    ],
)
def test_two_questions_are_two_needs(task: str, needs: list[str]) -> None:
    assert list(split(task).needs) == needs


@pytest.mark.parametrize(
    ("task", "needs"),
    [
        ("查一下明天北京的天气，然后把结果发送到我的邮箱", ["查一下明天北京的天气", "把结果发送到我的邮箱"]),
        (
            "你好！帮我订一张去上海的高铁票，再订一家酒店，并提醒我出发时间。谢谢！",
            ["订一张去上海的高铁票", "订一家酒店", "提醒我出发时间"],
        ),
        (
            "首先，读取 /data/a.csv；其次，画一个柱状图；最后保存为图片",
            ["读取 /data/a.csv", "画一个柱状图", "保存为图片"],
        ),
        ("请搜索罗马帝国的资料并翻译成英文", ["搜索罗马帝国的资料", "翻译成英文"]),
    ],
)
def test_a_task_in_chinese_is_taken_apart(task: str, needs: list[str]) -> None:
    assert list(split(task).needs) == needs


def test_greetings_and_background_drop_out() -> None:
    task = "Hi there! Hope you are well. We are a bakery in Lyon. Could you please translate our menu? Thanks a lot!"
    assert split(task).needs == ("translate our menu?",)


def test_background_stays_where_the_request_is_about_it() -> None:
    task = "I have a PDF invoice. Please translate it to German and send it to bob@example.com."
    assert split(task).needs == ("I have a PDF invoice. translate it to German", "send it to bob@example.com")


def test_a_clause_that_only_says_how_to_answer_is_no_need() -> None:
    assert split("Fetch the page https://a.example/ and give me a brief summary.").needs == (
        "Fetch the page https://a.example/",
    )


@pytest.mark.parametrize("task", ["", "   \n", "?!…", "\ud800\udfff\x00", "\x00" * 100_000])
def test_a_task_without_a_word_has_no_needs(task: str) -> None:
    assert split(task).needs == ()


def test_there_is_a_most_of_needs_and_it_is_said_that_there_were_more() -> None:
    found = split("\n".join(f"- read file number {n}" for n in range(40)))
    assert len(found.needs) == MOST
    assert found.cut
    assert not found.sure


@pytest.mark.parametrize(
    "task",
    [
        "find a file and then " * 50_000,
        "a" * 1_000_000,
        "(" * 200_000,
        "“" * 100_000 + "”",
        "```" * 50_000,
        "/" * 300_000,
        "a." * 200_000,
        "http://" * 100_000,
        "- " * 200_000,
        "please " * 100_000,
        "after finding " * 50_000,
        "查" * 300_000,
        "，再查" * 100_000,
        " and" * 100_000,
        "i " + "need " * 100_000,
        "thanks " * 50_000,
        "a@" * 100_000,
        "\ue000\ue001 find x and then delete y \uf8ff" * 10_000,
        "\ud800 find \udfff",
    ],
    ids=lambda task: task[:12].encode("unicode_escape").decode(),
)
def test_an_enormous_or_hostile_task_is_bounded_in_time_and_size(task: str) -> None:
    began = time.thread_time()  # not the time in which others have the processor
    found = split(task)
    assert time.thread_time() - began < 1
    assert len(found.needs) <= MOST
    assert all(0 < len(need) <= LONGEST_NEED for need in found.needs)
    json.dumps(found.needs).encode()
    assert not any("\ud800" <= char <= "\udfff" for need in found.needs for char in need)


def says(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "model": "m", "content": {"type": "text", "text": text}}


@pytest.mark.parametrize(
    "said",
    [
        '["read a file", "send it"]',
        'Sure! Here it is:\n```json\n["read a file", "send it"]\n```',
        '{"needs": ["read a file", "send it"]}',
        '[{"need": "read a file"}, {"need": "send it"}]',
        '[1] says: [{"text": "read a file"}, {"text": "send it"}]',
    ],
)
def test_what_a_model_says_is_read_however_it_wraps_it(said: str) -> None:
    assert answered(says(said)) == ("read a file", "send it")


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        {},
        {"content": None},
        {"content": {"type": "image", "data": "x"}},
        says("I cannot do that."),
        says(7),
        says("[" * 100_000),
        says('[[[["x"]]]]'),
        says("[1, null, {}, []]"),
        says('["", "  ", "\\u0000"]'),
        says("{" * 50 + '["later"'),
    ],
)
def test_what_cannot_be_read_is_nothing(result: Any) -> None:
    assert answered(result) is None


def test_what_a_model_says_is_bounded() -> None:
    needs = answered(says(json.dumps([f"need {n} \x00\ud800" + "x" * 500 for n in range(30)])))
    assert needs is not None
    assert len(needs) == MOST
    assert all(len(need) <= LONGEST_NEED and need.isprintable() for need in needs)


def test_a_model_is_asked_with_a_bounded_text() -> None:
    asked = question("find \x00" + "x" * 1_000_000)
    assert len(json.dumps(asked)) < 10_000
