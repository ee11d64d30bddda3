# frozen_string_literal: true

# A stream in Ruby beside IO::Buffer#copy of as much: 64 x 128 and 1 x 8 float32, in rounds that take turns.
#
#   ruby [--yjit] benches/circbuf/stream.rb [ROUNDS]

$LOAD_PATH.unshift File.expand_path("../../ruby/lib", __dir__)
ENV["SHMHOT_LIBRARY"] ||= File.expand_path("../../target/release/libshmhot.so", __dir__)
Warning[:experimental] = false # IO::Buffer, in Ruby 3.1
require "shmhot"

ROUNDS = Integer(ARGV.fetch(0, 301))
RING = 4096 # frames
CHUNKS = 48 # of a turn, which are fewer than the ring holds

def median(values)
  values.sort[values.size / 2]
end

def measure(frames, channels)
  name = "bench-ruby-#{Process.pid}"
  stream = Shmhot::CircBuff.new(name, dtype: :f32, shape: channels, rate: 1000, frames: RING)
  mirror = Shmhot::CircMirror.new(name)
  size = 4 * frames * channels
  chunk = IO::Buffer.new(size)
  ring = IO::Buffer.new(size * CHUNKS)
  write = -> { CHUNKS.times { stream.write(chunk) } }
  # What is done, and what before it, so that there is something to read.
  work = {
    "IO::Buffer#copy, to as many bytes" => [-> {}, -> { CHUNKS.times { |i| ring.copy(chunk, i * size) } }],
    "write" => [-> {}, write],
    "reserve { copy }" => [-> {}, -> { CHUNKS.times { stream.reserve(frames) { |room,| room.copy(chunk) } } }],
    "read" => [write, -> { CHUNKS.times { mirror.read(frames) } }],
    "view, whether it is intact" => [write, -> { CHUNKS.times { mirror.view(frames) { |room,| room } or raise "lost" } }]
  }
  taken = Hash.new { |hash, key| hash[key] = [] }
  (ROUNDS + 1).times do |round|
    work.to_a.rotate(round).each do |what, (before, doing)| # nobody is always the first
      mirror.seek(:newest)
      before.call
      began = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
      doing.call
      ended = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
      taken[what] << (ended - began).fdiv(CHUNKS) if round.positive? # the first one is for warming up
    end
  end
  puts format("\n%-48s %9s", "#{frames} x #{channels} float32", "ns")
  work.each_key { |what| puts format("    %-44s %9.0f", what, median(taken[what])) }
ensure
  mirror&.close
  stream&.close
end

puts "ruby #{RUBY_VERSION}#{" with YJIT" if defined?(RubyVM::YJIT) && RubyVM::YJIT.enabled?}, medians of #{ROUNDS} rounds"
[[64, 128], [1, 8]].each { |frames, channels| measure(frames, channels) }
