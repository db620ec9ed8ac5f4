"""Prompts in the layouts that the learner reads, and a small labelled sample to measure it on."""

from __future__ import annotations

import json

TEAMS = ("billing", "bugs", "accounts")

TRAIN = [
    ("I was charged twice for my subscription this month", "billing"),
    ("The app crashes when I open the settings page", "bugs"),
    ("I forgot my password and cannot log in", "accounts"),
    ("Please send me an invoice for the last payment", "billing"),
    ("An error message appears when I upload a picture", "bugs"),
    ("How do I change the email address of my profile?", "accounts"),
    ("My credit card was declined although it is valid", "billing"),
    ("The page stays blank after the latest update", "bugs"),
    ("I want to delete my account and all my data", "accounts"),
    ("Can I get a refund for the unused months?", "billing"),
    ("The export button does nothing, it seems broken", "bugs"),
    ("Two-factor login codes never reach my phone", "accounts"),
    ("The price on the receipt is not the price I agreed to", "billing"),
    ("Search is very slow and then the app freezes", "bugs"),
    ("Somebody else has signed in to my profile", "accounts"),
    ("Why does my invoice show taxes from another country?", "billing"),
]

TEST = [
    ("You charged my credit card two times", "billing"),
    ("I need a refund of yesterday's payment", "billing"),
    ("The invoice has a wrong price", "billing"),
    ("Subscription payment was declined", "billing"),
    ("Where is the receipt for last month?", "billing"),
    ("I was billed after I cancelled the subscription", "billing"),
    ("App crashes at the start", "bugs"),
    ("There is an error on the upload page", "bugs"),
    ("The button on the settings page is broken", "bugs"),
    ("After the update the search freezes", "bugs"),
    ("A blank page appears when I export", "bugs"),
    ("The picture upload is slow and crashes", "bugs"),
    ("I cannot log in to my profile", "accounts"),
    ("Reset my password please", "accounts"),
    ("Please delete the account I signed up with", "accounts"),
    ("I lost my phone and cannot get the login code", "accounts"),
    ("Change my email address", "accounts"),
    ("Somebody signed in with my password", "accounts"),
]

SYSTEM = """Fields that you are given:
1. `ticket` (str): what the customer wrote

Fields that are your output:
1. `reasoning` (str):
2. `team` (Literal['billing', 'bugs', 'accounts']): who handles it
3. `urgent` (bool):
4. `stars` (int):

Every exchange is laid out like this.

[[ ## ticket ## ]]
{ticket}

[[ ## reasoning ## ]]
{reasoning}

[[ ## team ## ]]
{team}        # note: your value must be exactly one of: billing; bugs; accounts

[[ ## urgent ## ]]
{urgent}        # note: your value must be True or False

[[ ## stars ## ]]
{stars}        # note: your value must be a single int value

[[ ## completed ## ]]

What to do:
        Sort a support ticket."""

Messages = list[tuple[str, str]]


def request(*fields: str) -> str:
    markers = ", then ".join(f"`[[ ## {field} ## ]]`" for field in fields)
    return f"Answer with the output fields, first {markers}, and last `[[ ## completed ## ]]`."


def shown(ticket: str, **outputs: str) -> Messages:
    body = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in outputs.items())
    return [
        ("user", f"[[ ## ticket ## ]]\n{ticket}"),
        ("assistant", f"{body}\n\n[[ ## completed ## ]]\n"),
    ]


def chat(ticket: str, demos: list[tuple[str, str]], fields: tuple[str, ...] = ("team",)) -> Messages:
    messages: Messages = [("system", SYSTEM)]
    for text, team in demos:
        messages += shown(text, team=team)
    return [*messages, ("user", f"[[ ## ticket ## ]]\n{ticket}\n\n{request(*fields)}")]


JSON_SYSTEM = """Input fields:
1. `ticket` (str):
Output fields:
1. `team` (Literal['billing', 'bugs', 'accounts']):
2. `urgent` (bool):

Inputs look like this:

[[ ## ticket ## ]]
{ticket}

Outputs are a JSON object with these fields:

{
  "team": "{team}        # note: exactly one of: billing; bugs; accounts",
  "urgent": "{urgent}        # note: must be True or False"
}"""


def json_chat(ticket: str, demos: list[tuple[str, str, bool]]) -> Messages:
    messages: Messages = [("system", JSON_SYSTEM)]
    for text, team, urgent in demos:
        messages.append(("user", f"[[ ## ticket ## ]]\n{text}"))
        messages.append(("assistant", json.dumps({"team": team, "urgent": urgent}, indent=2)))
    ask = "Respond with a JSON object in this order of fields: `team`, then `urgent` (must be a bool)."
    return [*messages, ("user", f"[[ ## ticket ## ]]\n{ticket}\n\n{ask}")]
