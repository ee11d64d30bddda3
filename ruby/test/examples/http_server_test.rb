# frozen_string_literal: true

require "test_helper"

# Each server as a process of its own, over real sockets.
module HttpServerTests
  OK = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"
  OK_CLOSE = OK.sub("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
  NOT_FOUND = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nnot found\n"

  # Processes to end when the tests are interrupted; then there is no teardown.
  RUNNING = []
  Minitest.after_run { RUNNING.each { |pid| Process.kill(:KILL, pid) } }

  def setup
    super
    @output, @input = IO.pipe
    @server = spawn(RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", program, "-p", "0", "--objects", out: @input)
    RUNNING << @server
    @input.close
    @port = Timeout.timeout(20) { @output.gets }[/\Alistening on 127\.0\.0\.1:(\d+)$/, 1].to_i
    @clients = []
  end

  def teardown
    @clients.each(&:close)
    Process.kill(:TERM, @server)
    Timeout.timeout(10) { Process.wait(@server) }
    RUNNING.delete(@server)
    assert_equal 0, $?.exitstatus
    assert_match(/\A\d+\.\d\d objects per request\n\z/, @output.read)
    @output.close
    super
  end

  def client
    socket = TCPSocket.new("127.0.0.1", @port)
    socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    @clients << socket
    socket
  end

  def get(path = "/", *fields)
    "GET #{path} HTTP/1.1\r\nHost: here\r\n#{fields.map { |field| "#{field}\r\n" }.join}\r\n"
  end

  # Sends pieces, each in a packet of its own, and reads the answer.
  def assert_answer(expected, *pieces, on: client)
    pieces.each_with_index do |piece, i|
      sleep 0.01 if i.positive?
      on.write(piece)
    end
    Timeout.timeout(10) { assert_equal expected, on.read(expected.bytesize) }
    on
  end

  def assert_ended(socket)
    Timeout.timeout(10) { assert_nil socket.read(1) }
  end

  def test_keep_alive
    socket = client
    5.times { assert_answer OK, get, on: socket }
    assert_answer OK, get("/?query"), on: socket
  end

  def test_pipelined_requests
    assert_answer OK * 3 + NOT_FOUND + OK, get * 3 + get("/nowhere") + get
  end

  def test_many_pipelined_requests
    count = 5000
    socket = client
    writer = Thread.new { socket.write(get * count) }
    assert_answer OK * count, on: socket
    writer.join
  end

  def test_a_request_in_pieces
    assert_answer OK, *get.chars
    socket = assert_answer(OK + NOT_FOUND, get + get("/x")[0, 9], get("/x")[9..])
    assert_answer OK, get, on: socket
  end

  def test_bodies_are_skipped
    post = "POST / HTTP/1.1\r\nContent-Length: 20\r\n\r\n"
    socket = assert_answer(OK + OK, "#{post}GET / HTTP/1.1\r\n\r\nab#{get}")
    assert_answer OK, post, "GET / HTTP/1", ".1\r\n\r\nab", on: socket
    assert_answer OK, "POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n", "x" * 300_000, on: socket
    assert_answer OK, get, on: socket
  end

  def test_expect_continue
    socket = assert_answer("HTTP/1.1 100 Continue\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert_answer OK, "ab", on: socket
  end

  def test_head
    head = OK[/.*\r\n\r\n/m]
    socket = assert_answer(head + OK, "HEAD / HTTP/1.1\r\n\r\n#{get}")
    assert_answer NOT_FOUND[/.*\r\n\r\n/m] + OK, "HEAD /x HTTP/1.1\r\n\r\n#{get}", on: socket
  end

  def test_connection_close
    assert_ended assert_answer(OK_CLOSE, get("/", "Connection: close"))
    assert_ended assert_answer(OK_CLOSE, get("/", "connection: Keep-Alive , Close") + get)
    assert_ended assert_answer(OK_CLOSE, "GET / HTTP/1.0\r\n\r\n")
    assert_ended assert_answer(OK + OK_CLOSE, get + get("/", "Connection: close"))
  end

  def test_a_client_that_only_half_closes
    socket = client
    socket.write(get * 2)
    socket.close_write
    assert_answer OK * 2, on: socket
    assert_ended socket
  end

  def test_what_is_no_http_is_refused
    { 400 => ["nonsense\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1\n\n", "GET / HTTP/1.1\r\nNo colon\r\n\r\n", "\r\n",
              "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
              "GET / HTTP/1.1\r\nField : x\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", "GET / HTTP/2.0\r\n\r\n"],
      431 => ["GET / HTTP/1.1\r\nA: #{"x" * 8192}", "GET /#{"x" * 9000} HTTP/1.1\r\n\r\n", "G" * 8192],
      501 => ["POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"] }.each do |status, requests|
      requests.each do |request|
        socket = client
        socket.write(request)
        answer = Timeout.timeout(10) { socket.read }
        assert_match(/\AHTTP\/1\.1 #{status} .*\r\nConnection: close\r\n\r\n/m, answer, request[0, 60].inspect)
      end
    end
  end

  # Closing while the client still sends would reset the connection, and the answer might never be read.
  def test_a_refused_client_that_goes_on_sending_gets_its_answer
    socket = client
    socket.write("nonsense\r\n")
    100.times { socket.write("x" * 10_000) }
    assert_match(/\AHTTP\/1\.1 400 /, Timeout.timeout(10) { socket.read })
  end

  def test_clients_that_vanish
    50.times do
      socket = client
      socket.write(get * 100)
      socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii"))
      socket.close # a reset
    end
    assert_answer OK, get
  end
end

class HttpServerTest < Minitest::Test
  include HttpServerTests

  def program = File.join(RUBY_FOLDER, "examples/http_server.rb")
end

class HttpServerMetricsTest < Minitest::Test
  include FolderHelper

  Store = Shmhot::Utilization::SegmentStore

  # The server, until it is told to end, and its port.
  def serve
    output, input = IO.pipe
    server = spawn(RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", "#{RUBY_FOLDER}/examples/http_server.rb", "-p", "0", "-m", path, out: input)
    @processes << server
    [server, Timeout.timeout(20) { output.gets }[/:(\d+)$/, 1].to_i]
  ensure
    input.close
    output.close
  end

  # Its numbers change at the end of a turn, after the answers are sent.
  def assert_published(expected, pid)
    Timeout.timeout(10) do
      Store.attach(path, read_only: true) do |store|
        values = nil
        sleep 0.01 until (values = store.find { |worker| worker.pid == pid }&.values&.slice(*expected.keys)) == expected
      rescue Timeout::ExitException, Timeout::Error
        flunk "#{values}, not #{expected}"
      end
    end
  end

  def test_it_publishes_how_busy_it_is
    server, port = serve
    other, = serve
    expected = { connections_active: 2, connections_total: 2, requests_active: 1, requests_total: 6,
                 sent_bytes_total: HttpServerTests::OK.bytesize * 6 }
    TCPSocket.open("127.0.0.1", port) do |half|
      half.write("GET / HTT")
      TCPSocket.open("127.0.0.1", port) do |client|
        request = "GET / HTTP/1.1\r\n\r\n"
        2.times do
          client.write(request)
          client.read(HttpServerTests::OK.bytesize)
        end
        client.write(request * 4)
        client.read(HttpServerTests::OK.bytesize * 4)
        assert_published(expected, server)
      end
    end
    assert_published(expected.merge(connections_active: 0, requests_active: 0), server)
    assert_published(expected.transform_values { 0 }, other)
    totals = Store.attach(path, read_only: true, &:totals)
    assert_equal [6, 2], totals["http_server"].values_at(:requests_total, :worker_count)

    Process.kill(:KILL, other)
    Process.wait(@processes.delete(other))
    assert_equal %i[alive dead], Store.attach(path, read_only: true) { |store| store.map(&:state).sort }
    Process.kill(:TERM, server)
    assert_succeeds server
    assert_equal %i[dead], Store.attach(path, read_only: true) { |store| store.map(&:state) }
  end
end

class PerCallServerTest < Minitest::Test
  include HttpServerTests

  def program = File.join(RUBY_FOLDER, "../benches/hotpath/http_ruby_per_call.rb")
end

class SelectServerTest < Minitest::Test
  include HttpServerTests

  def program = File.join(RUBY_FOLDER, "../benches/hotpath/http_ruby_select.rb")
end
