# Sourced by tools/demo and tools/smoke: one server at a time, which ends with the script, also on Ctrl-C.
# A server prints "listening on ADDRESS:PORT" when it is ready, and ends well on SIGTERM.

scratch=$(mktemp -d)
server_pid=

finish() {
  if [ -n "$server_pid" ]; then
    kill "$server_pid" 2>/dev/null || true
    wait "$server_pid" 2>/dev/null || true
  fi
  rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

start_server() { # COMMAND...: sets server_pid and port
  : >"$scratch/server.log" # now, and not only when the server gets to run
  "$@" >"$scratch/server.log" 2>&1 &
  server_pid=$!
  for ((i = 0; i < 200; i++)); do
    port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$scratch/server.log")
    if [ -n "$port" ]; then return; fi
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.05
  done
  cat "$scratch/server.log" >&2
  fail "$* did not start"
}

stop_server() {
  local status=0
  kill "$server_pid"
  wait "$server_pid" || status=$?
  server_pid=
  if [ "$status" -ne 0 ]; then
    cat "$scratch/server.log" >&2
    fail "the server ended with status $status"
  fi
}

# What the HTTP servers answer to GET /, head and body.
hello='HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n'

expect_answer() { # EXPECTED CURL-ARGUMENTS...
  local expected=$1
  shift
  printf '%b' "$expected" >"$scratch/expected"
  curl -sS --max-time 5 -i "$@" >"$scratch/answer" || fail "curl $*"
  cmp "$scratch/expected" "$scratch/answer" || {
    diff <(cat -A "$scratch/expected") <(cat -A "$scratch/answer") || true
    fail "curl $*: not the expected answer"
  }
}
