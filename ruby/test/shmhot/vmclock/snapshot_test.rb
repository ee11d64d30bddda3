# frozen_string_literal: true

require "test_helper"

# The value objects: pages that are only computed with, and the times that follow from them.
class SnapshotTest < Minitest::Test
  include PageHelper

  # 2016-12-31 23:59:60 lies before it, the last leap second so far.
  NEW_YEAR = Time.utc(2017).to_i

  # Some seconds after the reference time.
  def time_at(page, seconds)
    page.time_at(HZ + (HZ * seconds).to_i)
  end

  def test_fields_are_zero_unless_given
    assert_equal [1, *[0] * 19], Clock::Snapshot.new.to_a
    assert_equal [3, *[0] * 4, 7, *[0] * 14], Clock::Snapshot.new(version: 3, flags: 7).to_a
  end

  def test_values_are_frozen_and_compare_by_their_fields
    assert_predicate page, :frozen?
    assert_predicate page.with(flags: 1), :frozen?
    assert_predicate time_at(page, 0), :frozen?
    assert_raises(FrozenError) { page.flags = 1 }
    assert_equal page, page(flags: 0)
    refute_equal page, page(flags: 1)
    assert_equal 1, [page, page].uniq.size
    page(flags: 5) => { flags:, time_sec: 1000 }
    assert_equal 5, flags
  end

  def test_with_changes_what_is_given
    changed = page.with(flags: 9)
    assert_equal page.to_h.merge(flags: 9), changed.to_h
  end

  def test_what_does_not_fit_into_a_field_is_refused
    error = assert_raises(RangeError) { page(tai_offset_sec: -32_769) }
    assert_equal "tai_offset_sec is -32769, and must be an Integer of -32768..32767", error.message
    assert_raises(RangeError) { page.with(clock_status: 256) }
    assert_raises(RangeError) { page(flags: -1) }
    assert_raises(RangeError) { page(flags: 1 << 64) }
    assert_raises(RangeError) { page(time_sec: 1.5) }
    error = assert_raises(ArgumentError) { page(time: 1, flag: 2) }
    assert_equal "a page has no time, flag", error.message
  end

  def test_bytes_and_back
    values = Clock::Snapshot.members.each_with_index.to_h { |name, i| [name, i + 100] }
    made = Clock::Snapshot.new(**values, tai_offset_sec: -37, time_frac_sec: (1 << 64) - 1)
    assert_equal 104, made.pack.bytesize
    assert_equal made, Clock::Snapshot.unpack(made.pack)
  end

  def test_status_by_name
    assert_equal [:unknown, :initializing, :synchronized, :freerunning, :unreliable, nil, nil],
                 [0, 1, 2, 3, 4, 5, 200].map { |status| page(clock_status: status).status }
  end

  def test_time_before_at_and_after_the_reference
    { 0 => 1000 * SECOND, 2.5 => 1_002_500_000_000, -0.25 => 999_750_000_000 }.each do |seconds, expected|
      time = time_at(page(time_frac_sec: 0, disruption_marker: 5, vm_generation_counter: 6,
                          flags: FLAG_VM_GEN_COUNTER_PRESENT), seconds)
      assert_equal [expected, expected], [time.time_ns, time.utc_ns], seconds
      assert_equal Time.at(0, expected, :nsec), time.utc
      assert_equal [TIME_UTC, :synchronized, false], [time.time_type, time.status, time.leap_second?]
      assert_equal [5, 6, HZ + (seconds * HZ)], [time.disruption_marker, time.vm_generation_counter, time.counter_value]
    end
    assert_equal "UTC", time_at(page, 0).utc.zone
  end

  def test_what_is_unknown_is_nil
    time = time_at(page(time_type: TIME_MONOTONIC), 1)
    assert_equal 1001 * SECOND, time.time_ns
    assert_equal [nil] * 9, [time.utc_ns, time.tai_ns, time.utc, time.esterror_ns, time.maxerror_ns,
                             time.earliest_ns, time.latest_ns, time.earliest, time.latest]
    time = time_at(page(flags: BOUNDED, time_maxerror_nanosec: 7, time_type: TIME_MONOTONIC), 0)
    assert_equal [7, 1000 * SECOND - 7, 1000 * SECOND + 7], [time.maxerror_ns, time.earliest_ns, time.latest_ns]
    assert_equal [nil, nil], [time.earliest, time.latest]
  end

  def test_errors_grow_by_the_error_of_the_period
    flags = BOUNDED | ESTIMATED
    rate = (1 << 64) / HZ / 1000 # a thousandth
    bounded = page(flags: flags, time_maxerror_nanosec: 500, counter_period_maxerror_rate_frac_sec: rate,
                   time_esterror_nanosec: 200, counter_period_esterror_rate_frac_sec: rate / 2)
    time = time_at(bounded, 10)
    assert_in_delta 500 + 10_000_000, time.maxerror_ns, 10
    assert_in_delta 200 + 5_000_000, time.esterror_ns, 10
    assert_equal [time.time_ns - time.maxerror_ns, time.time_ns + time.maxerror_ns], [time.earliest_ns, time.latest_ns]
    assert_equal [Time.at(0, time.earliest_ns, :nsec), Time.at(0, time.latest_ns, :nsec)], [time.earliest, time.latest]
    assert_nil time_at(bounded.with(flags: flags & ~FLAG_PERIOD_MAXERROR_VALID), 10).maxerror_ns
    assert_nil time_at(bounded.with(flags: flags & ~FLAG_TIME_ESTERROR_VALID), 10).esterror_ns
  end

  def test_tai_and_utc_by_either_sign_of_the_offset
    [37, -37].each do |offset|
      known = { tai_offset_sec: offset, flags: FLAG_TAI_OFFSET_VALID | BOUNDED, time_maxerror_nanosec: 1 }
      time = time_at(page(time_type: TIME_TAI, **known), 0)
      assert_equal [1000, 1000, 963], [time.time_ns, time.tai_ns, time.utc_ns].map { |ns| ns / SECOND }
      assert_equal [Time.at(963), Time.at(0, 963 * SECOND + 1, :nsec)], [time.utc, time.latest]
      time = time_at(page(time_type: TIME_UTC, **known), 0)
      assert_equal [1000, 1037, 1000], [time.time_ns, time.tai_ns, time.utc_ns].map { |ns| ns / SECOND }
    end
    unknown = time_at(page(time_type: TIME_TAI, tai_offset_sec: 37), 0)
    assert_equal [1000 * SECOND, 1000 * SECOND, nil], [unknown.time_ns, unknown.tai_ns, unknown.utc_ns]
  end

  def test_a_leap_second
    before = page(time_type: TIME_TAI, time_sec: NEW_YEAR - 2 + 36, tai_offset_sec: 36, flags: FLAG_TAI_OFFSET_VALID,
                  leap_indicator: LEAP_PRE_POS)
    times = [0.5, 1.5, 2.5, 3.5].map { |seconds| time_at(before, seconds) }
    assert_equal %w[23:59:58 23:59:59 23:59:59 00:00:00], times.map { |time| time.utc.strftime("%T") }
    assert_equal [false, false, true, false], times.map(&:leap_second?)
    assert_equal [LEAP_PRE_POS, LEAP_PRE_POS, LEAP_POS, LEAP_POST_POS], times.map(&:leap_indicator)
  end

  def test_pages_that_give_no_time_say_why
    { { clock_status: STATUS_UNKNOWN } => /status/, { clock_status: STATUS_INITIALIZING } => /status/,
      { clock_status: STATUS_UNRELIABLE } => /status/, { clock_status: 200 } => /status/,
      { counter_id: COUNTER_INVALID } => /counter/, { time_type: 3 } => /smeared/, { time_type: 77 } => /type/,
      { counter_period_frac_sec: 0 } => /period/ }.each do |fields, sentence|
      error = assert_raises(Errno::ENODATA, fields.inspect) { time_at(page.with(**fields), 0) }
      assert_match sentence, error.message
    end
    assert_raises(Errno::EOVERFLOW) { time_at(page(time_sec: 1 << 34), 0) }
    assert_raises(Errno::EPROTO) { time_at(page(version: 2), 0) }
    assert_raises(RangeError) { page.time_at(1 << 64) }
  end
end
