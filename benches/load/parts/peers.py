"""Everybody else: how each is installed, set up and started. Who cannot be had is left out, with a word."""

import json
import os
import shutil
import subprocess

from .children import Failed, answer_length, listens, wait_for
from .data import PATH, USERS, body
from .servers import CACHE, ROOT, Subject, first_asset_only

HERE = ROOT / "benches" / "load"
NODE = CACHE / "load-node"
NODE_PACKAGES = ("ioredis@5", "express@5")
# What must be there, and the Debian package that brings it.
TOOLS = {"wrk": "wrk", "redis-server": "redis-server", "nginx": "nginx", "webdis": "webdis", "java": "openjdk-17-jdk-headless"}
LUA = "/usr/lib/nginx/modules/ngx_http_lua_module.so"
NDK = "/usr/lib/nginx/modules/ndk_http_module.so"
ALL = ("hyper", "nginx-return", "nginx-lua-dict", "axum-redis", "webdis", "nginx-lua-redis", "node-redis", "express-redis",
       "axum-view", "axum-view-seed")
WHAT = {
    "hyper": "bare hyper, one constant answer of the same length",
    "nginx-return": "nginx, `return 200` of the same length",
    "nginx-lua-dict": "nginx with Lua, body from a shared dict, same length",
    "axum-redis": "stock axum, redis-rs, one GET of the rendered body",
    "webdis": "webdis, GET of the rendered body",
    "nginx-lua-redis": "nginx with Lua, GET of the rendered body over kept connections",
    "node-redis": "node http, ioredis, GET of the rendered body",
    "express-redis": "express, ioredis, GET of the rendered body",
    "axum-view": "stock axum, one view query, newest row of each asset",
    "axum-view-seed": "stock axum, the seed's view query: answers one asset of three",
}


# --- installing -------------------------------------------------------------------------------------------------------

def install(say):
    """As root what is missing comes from Debian; a server that starts with its package is told not to."""
    missing = {package for tool, package in TOOLS.items() if not shutil.which(tool)}
    if not os.path.exists(LUA):
        missing |= {"nginx", "libnginx-mod-http-lua"}
    if missing and os.geteuid() == 0:
        policy, made = "/usr/sbin/policy-rc.d", False
        if not os.path.exists(policy):
            with open(policy, "w", encoding="ascii") as file:
                file.write("#!/bin/sh\nexit 101\n")
            os.chmod(policy, 0o755)
            made = True
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for package in sorted(missing):
            done = subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", package], env=env,
                                  capture_output=True, text=True, timeout=600, check=False)
            if done.returncode != 0:
                say(f"{package} cannot be installed: {done.stderr.strip()[-200:]} (apt-get update may help)")
        if made:
            os.remove(policy)
    elif missing:
        say(f"missing; as root: apt-get install -y --no-install-recommends {' '.join(sorted(missing))}")
    wanted = [NODE / "node_modules" / package.split("@")[0] for package in NODE_PACKAGES]
    if shutil.which("npm") and not all(folder.exists() for folder in wanted):
        NODE.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(NODE), *NODE_PACKAGES],
                              capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            say(f"npm install: {done.stderr.strip()[-200:]}")
    for tool in ("wrk", "redis-server", "setpriv", "taskset"):
        if not shutil.which(tool):
            raise Failed(f"{tool} is needed and not here")


def lacks(name):
    """Why this peer cannot run; empty if it can."""
    if name.startswith("nginx") and not shutil.which("nginx"):
        return "nginx is not here"
    if name.startswith("nginx-lua") and not os.path.exists(LUA):
        return "nginx' Lua module is not here"
    if name == "webdis" and not shutil.which("webdis"):
        return "webdis is not here"
    if name.startswith(("node", "express")) and not (shutil.which("node") and (NODE / "node_modules" / "ioredis").exists()):
        return "node with ioredis is not here"
    if name.startswith("express") and not (NODE / "node_modules" / "express").exists():
        return "express is not here"
    return ""


# --- nginx ------------------------------------------------------------------------------------------------------------

NGINX = """{modules}
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    default_type application/json;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /api/user/balance {{
            {pad}
            {location}
        }}
    }}
}}
"""

# The module's own way to speak Redis is a library that does this; it is not in Debian.
LUA_REDIS = """content_by_lua_block {{
    local id = ngx.var.arg_user_id
    local redis = ngx.socket.tcp()
    redis:settimeout(1000)
    local ok = redis:connect("127.0.0.1", {redis}, {{ pool_size = 128 }})
    if not ok then return ngx.exit(503) end
    local key = "body:" .. id
    redis:send("*2\\r\\n$3\\r\\nGET\\r\\n$" .. #key .. "\\r\\n" .. key .. "\\r\\n")
    local length = redis:receive()
    if not length then return ngx.exit(503) end
    length = tonumber(length:sub(2))
    if length < 0 then redis:setkeepalive(60000, 128) return ngx.exit(404) end
    local body = redis:receive(length + 2)
    redis:setkeepalive(60000, 128)
    ngx.header["Content-Length"] = length
    ngx.print(body:sub(1, length))
}}"""

LUA_DICT_HTTP = """lua_shared_dict bodies 64m;
    init_by_lua_block {{
        for line in io.lines("{file}") do
            local id, body = line:match("^(%d+)\\t(.*)$")
            ngx.shared.bodies:set(id, body)
        end
    }}"""
LUA_DICT = """content_by_lua_block {
    local body = ngx.shared.bodies:get(ngx.var.arg_user_id)
    if not body then return ngx.exit(404) end
    ngx.header["Content-Length"] = #body
    ngx.print(body)
}"""


def nginx(scratch, name, location, http="", pad=0):
    folder, port = scratch.place(), scratch.port()
    modules = f"load_module {NDK};\nload_module {LUA};" if "lua" in name else ""
    padding = f'add_header x-pad {"x" * pad};' if pad else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(modules=modules, folder=folder, http=http, port=port, pad=padding, location=location))
    child = scratch.start(name, ["nginx", "-p", folder, "-c", config])
    wait_for("its port", child, listens(port))
    return Subject(name, port, [child])


# --- starting ---------------------------------------------------------------------------------------------------------

class Peers:
    """Starts peers by name."""

    def __init__(self, scratch, folder, chosen, say):
        self.scratch, self.folder, self.chosen, self.say, self.left_out = scratch, folder, chosen, say, {}

    def start(self, names, redis=None, node=None, length=0):
        """Those of these that were chosen and can be had; `length`: of a whole answer of ours, for the constants."""
        started = []
        for name in names:
            if name not in self.chosen:
                continue
            if why := lacks(name):
                self.left_out[name] = why
                self.say(f"{name} is left out: {why}")
                continue
            started.append(self._padded(name, length) if length else self._start(name, redis, node))
        return started

    def _padded(self, name, length):
        """A constant, made as long as ours by one header."""
        bare = self._start(name)
        lacking = length - answer_length(bare.port, PATH.format(1)) - len("x-pad: \r\n")
        if lacking <= 0:
            return bare
        self.scratch.stop(*bare.server)
        return self._start(name, pad=lacking)

    def _rust(self, name, program, *words):
        port = self.scratch.port()
        child = self.scratch.start(name, [self.folder / program, "--listen", f"127.0.0.1:{port}", *words])
        wait_for("its port", child, listens(port))
        return Subject(name, port, [child])

    def _constant(self, subject):
        subject.accepts = lambda _, got: got == body(1)
        return subject

    def _start(self, name, redis=None, node=None, pad=0):
        scratch = self.scratch
        match name:
            case "hyper":
                file = scratch.place() / "body"
                file.write_bytes(body(1))
                return self._constant(self._rust(name, "hyper_constant", "--body", file, "--pad", pad))
            case "nginx-return":
                return self._constant(nginx(scratch, name, f"return 200 '{body(1).decode()}';", pad=pad))
            case "nginx-lua-dict":
                file = scratch.place() / "bodies"
                file.write_bytes(b"".join(b"%d\t%s\n" % (user, body(user)) for user in range(1, USERS + 1)))
                return nginx(scratch, name, LUA_DICT, LUA_DICT_HTTP.format(file=file), pad)
            case "nginx-lua-redis":
                subject = nginx(scratch, name, LUA_REDIS.format(redis=redis.port))
            case "axum-redis":
                subject = self._rust(name, "axum_redis", "--redis", f"redis://127.0.0.1:{redis.port}")
            case "webdis":
                subject = self._webdis(redis)
            case "node-redis" | "express-redis":
                port = scratch.port()
                script = HERE / "peers" / "node" / f"{name.split('-')[0]}.js"
                env = {"NODE_PATH": str(NODE / "node_modules"), "NODE_ENV": "production"}
                child = scratch.start(name, ["node", script, port, redis.port], env=env)
                wait_for("its port", child, listens(port))
                subject = Subject(name, port, [child])
            case "axum-view" | "axum-view-seed":
                query = "seed" if name.endswith("seed") else "grouped"
                subject = self._rust(name, "axum_view", "--node", f"127.0.0.1:{node.port}", "--query", query)
                subject.accepts = first_asset_only if query == "seed" else None
            case _:
                raise Failed(f"no peer is called {name}")
        subject.store = [store for store in (redis, node) if store]
        return subject

    def _webdis(self, redis):
        folder, port = self.scratch.place(), self.scratch.port()
        settings = {"redis_host": "127.0.0.1", "redis_port": redis.port, "http_host": "127.0.0.1", "http_port": port,
                    "threads": 1, "pool_size": 20, "daemonize": False, "websockets": False, "database": 0, "verbosity": 0,
                    "acl": [{"disabled": ["DEBUG"]}], "logfile": str(folder / "log")}
        (folder / "webdis.json").write_text(json.dumps(settings))
        child = self.scratch.start("webdis", ["webdis", folder / "webdis.json"])
        wait_for("its port", child, listens(port))
        # The ending says which type the answer has.
        return Subject("webdis", port, [child], path="/GET/body:{}.txt")
