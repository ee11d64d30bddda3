# frozen_string_literal: true

# Shmhot::Utilization::Metric beside a plain Ruby metric of the same semantics, in rounds that take turns.
#
#   ruby [--yjit] benches/observer/metric.rb [ROUNDS]
#
# Ends with 1 when a bar is missed.

$LOAD_PATH.unshift File.expand_path("../../ruby/lib", __dir__)
ENV["SHMHOT_LIBRARY"] ||= File.expand_path("../../target/release/libshmhot.so", __dir__)
require "shmhot"
require "tempfile"

# A number, changed under a mutex, that knows its field and buffer in shared memory.
class PlainMetric
  def initialize(field, buffer)
    @field = field
    @buffer = buffer
    @value = 0
    @guard = Mutex.new
  end

  attr_reader :value

  def set(value)
    @guard.synchronize do
      @value = value
      write
    end
  end

  def increment
    @guard.synchronize do
      @value += 1
      write
    end
    @value
  end

  def decrement
    @guard.synchronize do
      @value -= 1
      write
    end
    @value
  end

  def track
    increment
    yield
  ensure
    decrement
  end

  private

  def write
    @buffer&.set_value(@field.type, @field.offset, @value)
    true
  rescue StandardError => e
    warn e.message
    false
  end
end

ROUNDS = Integer(ARGV.fetch(0, 31))
CALLS = 50_000
THREADS = 16
BARS = { set: 1.5, increment: 1.5 }.freeze

file = Tempfile.new("metric")
file.truncate(4096)
schema = Shmhot::Utilization::Schema.build(connections_active: :u32, requests_total: :u64)
observer = Shmhot::Utilization::Observer.open(schema, file.path, 512, 1024)
registry = Shmhot::Utilization::Registry.new
registry.observer = observer
# Both write the same field, which is not aligned.
ours = registry.metric(:requests_total)
plain = PlainMetric.new(schema[:requests_total], observer.buffer)

def seconds
  began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  yield
  Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
end

# The loops are the same for all, so that they can be subtracted.
WORK = {
  loop: ->(_metric) { i = 0; i += 1 while i < CALLS },
  set: ->(metric) { i = 0; (metric.set(i); i += 1) while i < CALLS },
  increment: ->(metric) { i = 0; (metric.increment; i += 1) while i < CALLS },
  decrement: ->(metric) { i = 0; (metric.decrement; i += 1) while i < CALLS },
  track: ->(metric) { i = 0; (metric.track { nil }; i += 1) while i < CALLS }
}.freeze

def median(times)
  times.sort[times.size / 2]
end

contenders = { plain: plain, shmhot: ours }
times = Hash.new { |hash, key| hash[key] = [] }
(ROUNDS + 1).times do |round|
  WORK.each do |name, work|
    # Who comes first changes, and each begins where the other does.
    contenders.keys.rotate(round).each do |who|
      contenders[who].set(1 << 40)
      taken = seconds { work.call(contenders[who]) }
      times[[name, who]] << taken / CALLS * 1e9 if round.positive? # the first one is for warming up
    end
  end
end

puts "ruby #{RUBY_VERSION}#{" with YJIT" if defined?(RubyVM::YJIT) && RubyVM::YJIT.enabled?}, medians of #{ROUNDS} rounds"
puts format("%-10s %10s %10s %8s", "ns a call", "plain", "shmhot", "ratio")
empty = times.values_at(*contenders.keys.map { |who| [:loop, who] }).map { |taken| median(taken) }.min
missed = WORK.keys.drop(1).reject do |name|
  costs = contenders.keys.map { |who| median(times[[name, who]]) - empty }
  # Of pairs that ran one after the other, which is steadier than that of the medians.
  ratio = median(times[[name, :plain]].zip(times[[name, :shmhot]]).map { |theirs, mine| (theirs - empty) / (mine - empty) })
  bar = BARS[name]
  puts format("%-10s %10.1f %10.1f %7.2fx%s", name, *costs, ratio, bar && "  (bar: #{bar})")
  bar.nil? || ratio >= bar
end

ours.set(0)
Array.new(THREADS) { Thread.new { CALLS.times { ours.increment } } }.each(&:join)
counted = [ours.value, observer.get(:requests_total)]
exact = counted.all?(THREADS * CALLS)
puts "#{THREADS} threads, #{CALLS} increments each: #{counted.uniq.join(", and in memory ")}#{" (not exact)" unless exact}"

observer.close
file.close!
abort "missed: #{missed.join(", ")}" unless missed.empty?
exit 1 unless exact
