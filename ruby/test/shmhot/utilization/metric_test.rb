# frozen_string_literal: true

require "test_helper"

class MetricTest < Minitest::Test
  include SegmentHelper

  def test_results
    requests = metric(:requests_total)
    assert_equal [:requests_total, 0], [requests.name, requests.value]
    assert_equal [1, 2, 1], [requests.increment, requests.increment, requests.decrement]
    assert_equal true, requests.set(42)
    assert_equal [42, 42], [requests.value, seen(:requests_total)]
  end

  def test_track
    active = metric(:requests_active)
    assert_equal :done, active.track { assert_equal([1, 1], [active.value, seen(:requests_active)]) && :done }
    assert_nil active.track { nil }
    assert_raises(IOError) { active.track { raise IOError } }
    assert_equal 2, active.track { break 2 }
    assert_equal [0, 0], [active.value, seen(:requests_active)]
    assert_equal "block required", assert_raises(ArgumentError) { active.track }.message
  end

  def test_memory_has_what_the_field_can_hold_and_value_what_was_counted
    active = metric(:requests_active)
    assert_equal [-1, -2], [active.decrement, active.decrement]
    assert_equal 0, seen(:requests_active)
    assert_equal [-1, 0, 1], [active.increment, active.increment, active.increment]
    assert_equal 1, seen(:requests_active)
    active.set((1 << 32) - 1)
    assert_equal 1 << 32, active.increment
    assert_equal [(1 << 32) - 1, 1 << 32], [seen(:requests_active), active.value]
    assert_equal (1 << 32) - 1, active.decrement
    assert_equal (1 << 32) - 2, active.decrement
    assert_equal (1 << 32) - 2, seen(:requests_active)
    assert_empty reports
  end

  # Around every limit of a type, and of the Integers that are no objects.
  def test_all_types_at_their_limits
    limits = RANGES.values.flat_map(&:minmax).push(1 << 62, -(1 << 62), 0).uniq
    RANGES.each do |type, range|
      only = Schema.build(x: type)
      Observer.open(only, path, SIZE, OFFSET) do |observer|
        metric = Metric.for(:x, observer)
        limits.each do |limit|
          (limit - 2..limit + 2).each do |value|
            assert metric.set(value)
            assert_equal [value, value.clamp(range)], [metric.value, observer.get(:x)], "#{type}: set #{value}"
            assert_equal value + 1, metric.increment
            assert_equal (value + 1).clamp(range), observer.get(:x), "#{type}: increment #{value}"
            assert_equal value, metric.decrement
            assert_equal value - 1, metric.decrement
            assert_equal (value - 1).clamp(range), observer.get(:x), "#{type}: decrement #{value}"
          end
        end
      end
    end
  end

  def test_numbers_that_are_no_integers
    load = metric(:load)
    assert load.set(0.5)
    assert_equal [1.5, 1.5], [load.increment, seen(:load)]
    assert load.set(7)
    assert_equal [6, 6.0], [load.decrement, seen(:load)]
    requests = metric(:requests_total)
    assert requests.set(2.9)
    assert_equal [2, 2.9], [seen(:requests_total), requests.value]
    assert_in_delta 3.9, requests.increment
    assert_equal 3, seen(:requests_total)
    assert requests.set(9/2r)
    assert_equal [4, 11/2r], [seen(:requests_total), requests.increment]
    assert requests.set(4)
    assert_equal [5, 5], [requests.increment, seen(:requests_total)]
  end

  def test_what_is_no_number_changes_nothing_and_is_reported_once
    requests = metric(:requests_total)
    requests.set(5)
    ["6", nil, Float::NAN, Object.new, Complex(1, 1)].each { |value| assert_equal false, requests.set(value), value.inspect }
    assert_equal ['metric requests_total was not written: "6" is no number'], reports.map(&:first)
    assert_equal [5, 5, 6, 6], [requests.value, seen(:requests_total), requests.increment, seen(:requests_total)]
  end

  def test_a_buffer_that_refuses_is_reported_once_and_counting_goes_on
    requests = metric(:requests_total)
    requests.set(3)
    @observer.close
    assert_equal [4, false, 8, 7], [requests.increment, requests.set(7), requests.increment, requests.decrement]
    assert_equal ["metric requests_total was not written: Buffer is invalid!"], reports.map(&:first)
    assert_equal 3, seen(:requests_total)
    @registry.observer = Observer.open(schema, path, SIZE, OFFSET)
    assert_equal 7, seen(:requests_total)
  end

  def test_a_metric_without_an_observer_counts
    alone = Metric.new("alone")
    assert_equal [:alone, 1, 0, -1, true], [alone.name, alone.increment, alone.decrement, alone.decrement, alone.set(1 << 70)]
    assert_equal (1 << 70) + 1, alone.increment
    assert_empty reports
  end

  def test_an_observer_without_the_field
    other = metric(:other)
    assert_equal [1, true, 6], [other.increment, other.set(5), other.increment]
    assert_equal "\0" * 8192, File.binread(path)
    assert_empty reports
  end

  THREADS = 16

  def in_threads(&block)
    Timeout.timeout(60) { Array.new(THREADS) { |i| Thread.new(i, &block) }.each(&:join) }
  end

  def test_no_increment_is_lost
    requests = metric(:requests_total)
    in_threads { 20_000.times { requests.increment } }
    assert_equal [THREADS * 20_000] * 2, [requests.value, seen(:requests_total)]
  end

  # Where nothing is usual: below the field, above it, floats, and Integers that are objects.
  def test_no_change_is_lost_on_the_locked_path
    { requests_active: [-5, 0xffff_fffe], requests_total: [1 << 63, (1 << 62) - 1000, -1000], load: [0.5] }.each do |name, starts|
      starts.each do |start|
        number = metric(name)
        number.set(start)
        in_threads { |i| 1000.times { i < THREADS / 2 ? number.increment : number.decrement } }
        assert_equal start, number.value, name
        in_threads { 100.times { number.increment } }
        sum = start + THREADS * 100
        fitting = name == :requests_active ? sum.clamp(0, 0xffff_ffff) : sum.clamp(0, (1 << 64) - 1)
        assert_equal [sum, fitting], [number.value, seen(name)], name
      end
    end
  end

  # Threads also take turns between the lines, as a debugger or a coverage tool makes them.
  def test_no_change_is_lost_when_every_line_is_a_turn
    active = metric(:requests_active)
    turns = TracePoint.new(:line) { |line| Thread.pass if line.path.end_with?("utilization/metric.rb") && rand(20).zero? }
    turns.enable do
      in_threads { 50.times { active.track { nil } } }
    end
    assert_equal [0, 0], [active.value, seen(:requests_active)]
  end

  def test_sets_and_increments_beside_each_other
    requests = metric(:requests_total)
    in_threads do |i|
      2000.times { i.zero? ? requests.set([rand(1 << 40), 0.5, 1 << 63, -1].sample) : requests.increment }
    end
    assert_equal requests.value.clamp(0, (1 << 64) - 1).to_i, seen(:requests_total)
    requests.set(0)
    in_threads { 100.times { requests.increment } }
    assert_equal [1600, 1600], [requests.value, seen(:requests_total)]
  end

  def test_the_observer_changes_while_others_count
    requests = metric(:requests_total)
    narrow = kept(Observer.open(Schema.build(requests_total: :U16), path, SIZE, 0))
    stop = false
    changer = Thread.new { [narrow, nil, @observer].cycle { |next_one| stop ? break : @registry.observer = next_one } }
    in_threads { 3000.times { requests.increment } }
    stop = true
    changer.join
    assert_equal THREADS * 3000, requests.value
    @registry.observer = narrow
    assert_equal [THREADS * 3000], [narrow.get(:requests_total)]
    @registry.observer = @observer
    assert_equal THREADS * 3000, seen(:requests_total)
    assert_empty reports
  end

  def test_in_a_signal_handler
    requests = metric(:requests_total)
    before = trap("USR1") { requests.increment }
    Process.kill("USR1", Process.pid)
    sleep 0.01 until requests.value.positive?
    assert_equal [1, 1], [requests.value, seen(:requests_total)]
  ensure
    trap("USR1", before)
  end

  # As other Rubies do it, whose threads run at the same time.
  def test_with_nothing_but_the_lock
    program = <<~RUBY
      require "shmhot"
      Shmhot::Utilization::Metric.send(:remove_const, :THREADS_TAKE_TURNS)
      Shmhot::Utilization::Metric::THREADS_TAKE_TURNS = false
      schema = Shmhot::Utilization::Schema.build(requests: :u64)
      observer = Shmhot::Utilization::Observer.open(schema, #{path.inspect}, 512, 1)
      metric = Shmhot::Utilization::Metric.for(:requests, observer)
      abort "a usual one" if metric.instance_variable_get(:@plain)
      Array.new(16) { Thread.new { 1000.times { metric.increment } } }.each(&:join)
      abort "a usual one" if metric.instance_variable_get(:@plain)
      metric.set(metric.value + 1)
      metric.decrement
      puts metric.value, observer.get(:requests)
    RUBY
    output, status = Open3.capture2e(RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", "-e", program)
    assert_predicate status, :success?, output
    assert_equal "16000\n16000\n", output
  end
end
