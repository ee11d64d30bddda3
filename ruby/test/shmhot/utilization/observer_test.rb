# frozen_string_literal: true

require "test_helper"

class ObserverTest < Minitest::Test
  include SegmentHelper

  # What each type is tried with, and then what is expected in the file.
  def samples(type)
    return [0.0, 1.0, -2.5, 3.0e38, 2.0**-140, -0.0, Float::INFINITY] if FLOATS.include?(type)

    range = RANGES.fetch(type)
    [range.min, range.max, range.max / 3, 0, 1].uniq
  end

  def all_types
    @all_types ||= Schema.build(TYPES.to_h { |type| [type, type] })
  end

  # A segment's bytes as IO::Buffer writes them.
  def expected_bytes(values)
    buffer = IO::Buffer.new(all_types.size)
    all_types.fields.each { |field| buffer.set_value(field.type, field.offset, values.fetch(field.name)) }
    buffer.get_string
  end

  def rounds
    count = TYPES.map { |type| samples(type).size }.max
    Array.new(count) { |i| TYPES.to_h { |type| [type, samples(type)[i % samples(type).size]] } }
  end

  # Every field of this schema is misaligned at some of these offsets.
  OFFSETS = [0, 1, 3, 512, 1001, 4091, 4096, 7000].freeze

  def test_the_bytes_are_those_of_io_buffer_in_another_process
    OFFSETS.each do |offset|
      rounds.each do |values|
        assert_succeeds(process do
          Observer.open(all_types, path, SIZE, offset) do |observer|
            values.each { |name, value| observer.set(name, value) }
          end
        end)
        bytes = File.binread(path, all_types.size, offset)
        assert_equal expected_bytes(values), bytes, "at #{offset}: #{values}"
      end
    end
    assert_empty reports
  end

  def test_metrics_write_the_same_bytes
    OFFSETS.each do |offset|
      Observer.open(all_types, path, SIZE, offset) do |observer|
        registry = Registry.new
        registry.observer = observer
        rounds.each do |values|
          values.each { |name, value| assert registry.metric(name).set(value) }
          assert_equal expected_bytes(values), File.binread(path, all_types.size, offset), "at #{offset}"
        end
      end
    end
  end

  def test_reads_what_io_buffer_writes_in_another_process
    OFFSETS.each do |offset|
      rounds.each do |values|
        assert_succeeds(process do
          buffer = File.open(path, "r+b") { |file| IO::Buffer.map(file, 8192) }
          all_types.fields.each { |field| buffer.set_value(field.type, offset + field.offset, values[field.name]) }
        end)
        Observer.open(all_types, path, SIZE, offset) do |observer|
          expected = values.to_h { |name, value| [name, %i[f32 F32].include?(name) ? [value].pack("f").unpack1("f") : value] }
          assert_equal expected, values.to_h { |name, _| [name, observer.get(name)] }, "at #{offset}"
        end
      end
    end
  end

  def test_nothing_outside_of_the_segment_is_written
    File.binwrite(path, "\xAA".b * 8192)
    observer = observer(all_types)
    TYPES.each { |type| observer.set(type, -1) }
    before, after = OFFSET, OFFSET + all_types.size
    assert_equal "\xAA".b * before, File.binread(path, before)
    assert_equal "\xAA".b * (8192 - after), File.binread(path, 8192 - after, after)
  end

  def test_what_a_field_cannot_hold_is_clamped
    observer = observer(all_types)
    RANGES.each do |type, range|
      { range.max + 1 => range.max, range.min - 1 => range.min, 1 << 80 => range.max, -(1 << 80) => range.min,
        1.9 => 1, 1e30 => range.max, -1e30 => range.min, Float::INFINITY => range.max, 5/2r => 2 }.each do |value, expected|
        observer.set(type, value)
        assert_equal expected, observer.get(type), "#{type} of #{value}"
      end
      observer.set(type, 7)
      observer.set(type, Float::NAN)
      assert_equal 7, observer.get(type), type
    end
    assert_equal RANGES.keys.map { |type| "field #{type} was not written: NaN, and it holds integers" }, reports.map(&:first)
    observer.set(:f64, Float::NAN)
    assert_predicate observer.get(:f64), :nan?
  end

  def test_unknown_fields_are_ignored
    before = File.binread(path)
    assert_nil observer.set(:nothing, 1)
    assert_nil observer.get(:nothing)
    assert_nil observer.add(:nothing, 1)
    assert_equal before, File.binread(path)
    assert_empty reports
  end

  def test_a_failure_is_reported_once_for_each_field
    3.times do
      observer.set(:requests_total, "many")
      observer.set(:load, nil)
    end
    assert_equal ['field requests_total was not written: "many" is no number', "field load was not written: nil is no number"],
                 reports.map(&:first)
    assert_kind_of TypeError, reports.first.last
  end

  def test_a_reporter_that_fails_is_no_failure_of_the_write
    Utilization.reporter = ->(*) { raise "no" }
    assert_nil observer.set(:load, nil)
  end

  def test_by_default_failures_are_warned_of
    Utilization.reporter = @reporter
    assert_output(nil, "shmhot: field load was not written: nil is no number\n") { observer.set(:load, nil) }
  end

  def test_the_region_must_lie_in_the_file_and_the_schema_in_the_region
    [[512, 7681], [8193, 0], [1, 8192], [0, 0], [-1, 0], [512, -1], [23, 0], [1 << 62, 0]].each do |size, offset|
      assert_raises(Errno::EINVAL, RangeError, "#{size} bytes at #{offset}") { Observer.open(schema, path, size, offset) }
    end
    Observer.open(schema, path, 24, 8192 - 24) { |observer| observer.set(:load, 1.5) }
    assert_equal 1.5, seen(:load, at: 8192 - 24)
  end

  def test_files_that_cannot_be_opened
    assert_raises(Errno::ENOENT) { Observer.open(schema, "#{path}-2", SIZE, 0) }
    File.symlink(path, "#{path}-link")
    assert_raises(Errno::ELOOP) { Observer.open(schema, "#{path}-link", SIZE, 0) }
    assert_raises(TypeError) { Observer.open(schema, nil, SIZE, 0) }
  end

  def test_blocks_are_allocated_when_it_is_opened
    File.truncate(path, 0)
    File.truncate(path, 1 << 20)
    assert_equal 0, File.stat(path).blocks
    observer(at: 500_000)
    assert_operator File.stat(path).blocks * 512, :>=, SIZE
  end

  def test_an_offset_that_the_caller_made_up_reaches_no_other_memory
    [-1, -4096, SIZE - 7, SIZE, 1 << 40].each do |offset|
      odd = Schema.new([Schema::Field.new(:x, :u64, offset)])
      observer = Observer.new(odd, IO::Buffer.new(SIZE))
      observer.set(:x, 1)
      metric = Metric.for(:x, observer)
      assert_equal 1, metric.increment
      assert_equal "\0" * SIZE, observer.buffer.get_string
    end
    assert_equal 10, reports.size
    assert_match(/8 bytes at -1 do not lie in the 512 of the segment/, reports.first.first)
  end

  def test_an_observer_of_a_buffer
    observer = Observer.new(schema, IO::Buffer.new(64))
    observer.set(:requests_total, 5)
    assert_equal 5, observer.buffer.get_value(:u64, 4)
    observer.add(:requests_total, 1)
    assert_match(/only an observer of a file adds/, reports.first.first)
  end

  def test_fields_placed_by_the_caller
    placed = Schema.new([Schema::Field.new(:a, :u32, 8), Schema::Field.new(:b, :U64, 101)])
    observer(placed).set(:b, 1 << 40)
    assert_equal 1 << 40, seen(:b, in_schema: placed)
    assert_raises(Errno::EINVAL) { Observer.open(placed, path, 108, 0) }
  end

  def test_add
    assert_nil observer.add(:requests_total, 5)
    observer.add(:requests_total, -2)
    observer.add(:requests_active, -2)
    observer.add(:load, 0.25)
    assert_equal [3, 0, 0.25], %i[requests_total requests_active load].map { |name| observer.get(name) }
  end

  def test_several_processes_add_in_the_aligned_layout
    aligned = Schema.aligned(other: :U8, requests: :u64)
    observer(aligned, at: 1024)
    children = Array.new(4) do
      process do
        Observer.open(aligned, path, SIZE, 1024) { |ours| 2000.times { ours.add(:requests, 3) } }
      end
    end
    children.each { |pid| assert_succeeds(pid) }
    assert_equal 24_000, observer.get(:requests)
  end

  def test_a_closed_observer
    metric(:requests_total).set(5)
    buffer = observer.buffer
    assert_nil observer.close
    assert_nil observer.close
    assert_equal [nil, true, "#<Shmhot::Utilization::Observer closed>"], [observer.buffer, observer.closed?, observer.inspect]
    assert_raises(IO::Buffer::InvalidatedError) { buffer.set_value(:u64, 0, 1) }
    assert_nil observer.set(:requests_total, 6)
    assert_nil observer.get(:requests_total)
    assert_equal 5, seen(:requests_total)
  end

  def test_what_is_not_closed_is_given_back
    count = -> { File.foreach("/proc/self/maps").count { |line| line.include?(path) } }
    before = count.call
    200.times do
      Observer.open(schema, path, SIZE, OFFSET)
      GC.start if rand(20).zero?
    end
    GC.start
    assert_operator count.call, :<, before + 100
    maps = count.call
    Array.new(10) { Observer.open(schema, path, SIZE, OFFSET) }.each(&:close)
    assert_operator count.call, :<=, maps
  end
end
