# frozen_string_literal: true

# HTTP/1.1 without the transport: what a request is, and how it is answered. The rules are those of
# c-examples/http_server.c.
module Http
  HEADER_MAX = 8192

  # bytes:: the answer
  # closes:: whether the connection ends after it
  # wire:: what a server hands to its transport: the bytes, or what it has made of them
  Answer = Struct.new(:bytes, :closes, :wire)

  def self.answer(status, body, closes:, head:)
    bytes = "HTTP/1.1 #{status}\r\nContent-Type: text/plain\r\nContent-Length: #{body.bytesize}\r\n" \
            "#{"Connection: close\r\n" if closes}\r\n#{body unless head}".b.freeze
    Answer.new(bytes, closes, bytes)
  end
  private_class_method :answer

  # By status, whether the connection ends, and whether only the header is asked for.
  ANSWERS = {
    ok: ["200 OK", "hello\n"],
    bad_request: ["400 Bad Request", "bad request\n"],
    not_found: ["404 Not Found", "not found\n"],
    header_too_large: ["431 Request Header Fields Too Large", "header too large\n"],
    not_implemented: ["501 Not Implemented", "not implemented\n"]
  }.flat_map do |name, (status, body)|
    [true, false].product([true, false]).map do |closes, head|
      [[name, closes, head], answer(status, body, closes: closes, head: head)]
    end
  end.to_h.freeze
  CONTINUE_BYTES = "HTTP/1.1 100 Continue\r\n\r\n".b.freeze
  CONTINUE = Answer.new(CONTINUE_BYTES, false, CONTINUE_BYTES)

  # Clients repeat themselves: requests that came alone, whole and without a body, and their answers.
  KNOWN = {}
  KNOWN_MAX = 256

  def self.remember(request, answer)
    KNOWN.clear if KNOWN.size == KNOWN_MAX
    KNOWN[request] = answer
  end

  # Every answer there is, for servers that want to prepare them.
  def self.each_answer(&)
    ANSWERS.each_value(&)
    yield CONTINUE
  end

  # What one connection remembers between receives.
  class Session
    REQUEST_LINE = %r{\A([^ \n]+) ([^ \n]+) HTTP/1\.([01])\r\n}n
    FIELD = /\G([^\s:](?:[^:\n]*[^\s:])?):[ \t]*([^\n]*?)[ \t]*\r\n/n
    private_constant :REQUEST_LINE, :FIELD

    Request = Struct.new(:status, :head, :close, :expects_continue, :body_length, :bytesize)
    private_constant :Request

    def initialize
      @carry = "".b # the beginning of a header whose end has not arrived
      @due = nil # to be sent when the body has been read
      @body_left = 0
      @closing = @lingering = false
    end

    # Whether the connection is to end after what has been answered.
    def closing?
      @closing
    end

    # Whether that has to wait for the end of what the peer is sending, lest the answer be lost with it.
    def lingering?
      @lingering
    end

    # Whether nothing is remembered.
    def idle?
      !@closing && @due.nil? && @carry.empty?
    end

    # Takes what was received and yields the answers that are due.
    def feed(bytes)
      data = @carry << bytes
      @carry = "".b
      at = 0
      until @closing
        if @due
          at += skip_body(data.bytesize - at)
          return if @body_left.positive?

          yield @due
          @closing = @due.closes
          @due = nil
        elsif at == data.bytesize
          return
        else
          request = parse(data, at)
          return @carry = data.byteslice(at..) if request == :incomplete
          return refuse(request) { |answer| yield answer } if request.is_a?(Symbol)

          at += request.bytesize
          @due = ANSWERS.fetch([request.status, request.close, request.head])
          @body_left = request.body_length
          yield CONTINUE if request.expects_continue && @body_left.positive? && at == data.bytesize
        end
      end
    end

    private

    def skip_body(available)
      skipped = [available, @body_left].min
      @body_left -= skipped
      skipped
    end

    # What follows cannot be told apart from the refused request, so the connection ends.
    def refuse(status)
      yield ANSWERS.fetch([status, true, false])
      @closing = @lingering = true
    end

    # The request that begins at +from+, :incomplete, or the status with which to refuse it.
    def parse(data, from)
      size = [data.bytesize - from, HEADER_MAX].min
      header = data.byteslice(from, size)
      request = parse_header(header)
      request == :incomplete && size == HEADER_MAX ? :header_too_large : request
    end

    def parse_header(header)
      return :bad_request unless header.match?(/\A[A-Z]/n)

      line = REQUEST_LINE.match(header)
      return header.include?("\n") ? :bad_request : :incomplete unless line

      status = line[2].match?(%r{\A/(\?|\z)}) ? :ok : :not_found
      request = Request.new(status, line[1] == "HEAD", line[3] == "0", false, nil)
      at = line.end(0)
      until header.byteslice(at, 2) == "\r\n"
        field = FIELD.match(header, at)
        return header.index("\n", at) ? :bad_request : :incomplete unless field
        return :bad_request unless take(request, field[1].downcase, field[2])

        at = field.end(0)
      end
      return request.status if request.status == :not_implemented

      request.body_length ||= 0
      request.bytesize = at + 2
      request
    end

    # Whether the field makes sense.
    def take(request, name, value)
      case name
      when "connection"
        request.close = true if lists?(value, "close")
      when "content-length"
        # A second one is how requests are smuggled.
        return false unless request.body_length.nil? && value.match?(/\A\d{1,18}\z/)

        request.body_length = value.to_i
      when "transfer-encoding"
        request.status = :not_implemented
      when "expect"
        request.expects_continue = lists?(value, "100-continue")
      end
      true
    end

    def lists?(value, word)
      value.split(",").any? { |item| item.strip.casecmp?(word) }
    end
  end
end
