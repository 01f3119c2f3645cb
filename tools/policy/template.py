"""A policy to begin with."""

TEMPLATE = """\
# Who may do what. ToolScore reads this file at its start and again whenever it changes; `toolscore policy check`
# tells whether it is in order, and `toolscore policy explain CLIENT TOOL` what it comes to.
#
# Rules are tried from the first to the last: the first that fits decides. Where none fits, all is as without a
# policy.
# A rule fits if everything it names fits; what it does not name leaves nothing out.
#
#   who       names of clients, as patterns: names of tokens, or owner (stdio, Unix socket, command line),
#             token (the generated one), anyone (--no-token)
#   listener  where they come in: stdio, unix, websocket, http, command
#   what      see, call, install, manage, approve; all of them where it is left out.
#             Who may call may see; who may not see may not call.
#   servers   patterns over servers                     tools    patterns over server__tool
#   hints     destructive, read-only, idempotent, open-world: what the tool says of itself, all of those named
#   sources   patterns over what is installed, such as "pypi:*"
#   answer    allow, deny, or ask (the person at the client, each time, or with remember = "session" once)
#   why       what is said to who is refused
#
# ToolScore's own tools are left alone, except by rules that name them: servers = "toolscore", or tools =
# "toolscore__...".

# What may destroy something is asked about, whoever calls it.
#[[rule]]
#what = "call"
#hints = "destructive"
#answer = "ask"
#remember = "session"

# The token ci sees and calls the server time, and nothing else.
#[[rule]]
#who = "ci"
#servers = "time"
#what = ["see", "call"]
#answer = "allow"
#
#[[rule]]
#who = "ci"
#answer = "deny"
#why = "ci is for the clock. Ask an operator for another token."

# Packages of one scope may be installed by the token builder without asking anybody; nothing else over the network.
#[[rule]]
#who = "builder"
#what = "install"
#sources = "npm:@example/*"
#answer = "allow"
#grant = true
#
#[[rule]]
#listener = ["websocket", "http"]
#what = "install"
#answer = "deny"

# Limits: all that fit hold. A client is a name: everybody with one token together.
#[[limit]]
#who = "ci"
#calls_per_minute = 60
#calls_per_session = 500
#parallel = 4
#seconds = 30
#bytes_per_hour = 50000000
"""
