# Sourced by tools/demo and tools/smoke: servers that end with the script, also on Ctrl-C.
# A server prints a line when it is ready, "listening on ADDRESS:PORT" if it has a port, and ends well on SIGTERM.

scratch=$(mktemp -d)

finish() {
  local running
  running=$(jobs -pr)
  if [ -n "$running" ]; then
    kill $running 2>/dev/null || true
    wait $running 2>/dev/null || true
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
  if ! await 's/^listening on .*:\([0-9]*\)$/\1/p' "$@"; then
    cat "$scratch/server.log" >&2
    fail "$* did not start"
  fi
  port=$ready
}

# Starts a command and waits until the sed script prints something of its output; false when it ends before.
await() { # SED-SCRIPT COMMAND...: sets server_pid and ready
  local script=$1
  shift
  rm -f "$scratch/server.log" # another server may still write to it
  : >"$scratch/server.log" # now, and not only when the server gets to run
  "$@" >"$scratch/server.log" 2>&1 &
  server_pid=$!
  for ((i = 0; i < 200; i++)); do
    ready=$(sed -n "$script" "$scratch/server.log")
    if [ -n "$ready" ]; then return; fi
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.05
  done
  return 1
}

stop_server() { # [PID]: the last one that was started
  local pid=${1:-$server_pid} status=0
  kill "$pid"
  wait "$pid" || status=$?
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
