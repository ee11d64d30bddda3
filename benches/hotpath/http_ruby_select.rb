# frozen_string_literal: true

# The HTTP server of ruby/examples/http_server.rb in plain Ruby: IO.select, read_nonblock, write_nonblock.
#
#   ruby benches/hotpath/http_ruby_select.rb [-p PORT] [--spin] [--objects]

require_relative "ruby_server"

class SelectServer < BenchServer
  def initialize(port)
    super
    Http.each_answer { |answer| answer.wire = answer.bytes }
    @readers = [@listener]
    @sessions = {}.compare_by_identity
    # What a socket would not take yet.
    @unsent = {}.compare_by_identity
  end

  def run
    until @stopping
      readable, writable = IO.select(@readers, @unsent.keys, nil, 0.1)
      readable&.each { |io| io.equal?(@listener) ? accept : receive(io) }
      writable&.each { |socket| write(socket, "") unless socket.closed? }
    end
  end

  private

  def accept
    while (socket = @listener.accept_nonblock(exception: false)) != :wait_readable
      @readers << socket
    end
  end

  def receive(socket)
    bytes = socket.read_nonblock(8192, exception: false)
    return if bytes == :wait_readable
    return close(socket) if bytes.nil?

    session = @sessions[socket]
    if session.nil? && (answer = Http::KNOWN[bytes])
      @answered += 1
      return write(socket, answer.wire)
    end
    return if session&.closing?

    session, answers = converse(session, bytes)
    if session.idle?
      @sessions.delete(socket)
    else
      @sessions[socket] = session
    end
    write(socket, answers.map(&:wire).join)
  rescue SystemCallError
    close(socket)
  end

  def write(socket, bytes)
    unsent = @unsent.delete(socket)
    bytes = unsent + bytes if unsent
    written = bytes.empty? ? 0 : socket.write_nonblock(bytes, exception: false)
    written = 0 if written == :wait_writable
    if written < bytes.bytesize
      @unsent[socket] = bytes.byteslice(written..)
    elsif (session = @sessions[socket])&.closing?
      session.lingering? ? socket.close_write : close(socket)
    end
  rescue SystemCallError
    close(socket)
  end

  def close(socket)
    @readers.delete(socket)
    @sessions.delete(socket)
    @unsent.delete(socket)
    socket.close
  end
end

BenchServer.main(SelectServer)
