# frozen_string_literal: true

require "test_helper"
require "pathname"

# Reading pages.
class VMClockTest < Minitest::Test
  include PageHelper

  SEQ_COUNT = 0x0c

  def test_a_snapshot_has_what_was_written
    values = Clock::Snapshot.members.each_with_index.to_h { |name, i| [name, i + 1] }
    written = Clock::Snapshot.new(**values, version: 1, flags: FLAG_VM_GEN_COUNTER_PRESENT, tai_offset_sec: -37,
                                            time_frac_sec: (1 << 64) - 1)
    writer.write(written)
    assert_equal written.with(seq_count: clock.snapshot.seq_count), clock.snapshot
    assert_equal clock.snapshot, kept(Clock.new(path, checked: true)).snapshot
    assert_predicate clock.snapshot, :frozen?
  end

  def test_now_is_the_time_of_this_host
    writer.write(live_page, disruption_marker: 11, clock_status: STATUS_FREERUNNING)
    before = Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)
    time = clock.now
    after = Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)
    assert_operator time.utc_ns, :>, before - (SECOND / 100)
    assert_operator time.utc_ns, :<, after + (SECOND / 100)
    assert_in_delta Time.now, time.utc, 1
    assert_operator time.earliest, :<, time.utc
    assert_operator time.latest, :>, time.utc
    assert_equal [1_000_000, :freerunning, 11, clock.snapshot.seq_count, true],
                 [time.maxerror_ns, time.status, time.disruption_marker, time.seq_count, time.frozen?]
    later = clock.now
    assert_operator later.time_ns, :>=, time.time_ns
    assert_operator later.counter_value, :>, time.counter_value
  end

  def test_now_says_why_there_is_no_time
    writer
    error = assert_raises(Errno::ENODATA) { clock.now }
    assert_match(/\ANo data available - the page gives no time: its clock status is unknown/, error.message)
    assert_equal :unknown, clock.snapshot.status
    writer.write(page(counter_id: [COUNTER_ARM_VCNT, COUNTER_X86_TSC].find { |id| id != OUR_COUNTER }))
    assert_match(/this processor/, assert_raises(Errno::ENODATA) { clock.now }.message)
  end

  def test_open_closes_what_it_yields
    writer
    yielded = nil
    assert_equal(:result, Clock.open(path) { |clock| (yielded = clock) && :result })
    assert_predicate yielded, :closed?
    assert_raises(RuntimeError) { Clock.open(path) { |clock| (yielded = clock) && raise("out") } }
    assert_predicate yielded, :closed?
    refute_predicate kept(Clock.open(path)), :closed?
  end

  def test_paths_of_all_kinds
    writer
    assert_equal 1, kept(Clock.new(Pathname(path))).snapshot.version
    File.symlink(path, "#{path}-link")
    assert_equal 1, kept(Clock.new("#{path}-link")).snapshot.version
    assert_raises(ArgumentError) { Clock.new("#{path}\0") }
    assert_raises(TypeError) { Clock.new(5) }
  end

  def test_the_default_is_the_kernel_s_first_device
    skip "this host has a /dev/vmclock0" if File.exist?("/dev/vmclock0")
    error = assert_raises(Errno::ENOENT) { Clock.open }
    assert_match(%r{/dev/vmclock0: .*hypervisor}, error.message)
  end

  def test_what_is_no_page_is_refused_with_its_errno_and_a_sentence
    other = File.join(@folder, "other")
    File.symlink("loop", File.join(@folder, "loop"))
    File.mkfifo(File.join(@folder, "fifo"))
    { "missing" => Errno::ENOENT, "" => Errno::EINVAL, "loop" => Errno::ELOOP,
      "fifo" => Errno::EINVAL }.each do |name, kind|
      error = assert_raises(kind, name) { Clock.new(File.join(@folder, name)) }
      assert_includes error.message, File.join(@folder, name)
    end
    good = writer.then { File.binread(path) }
    { "" => /0 bytes/, good[0, 103] => /103 bytes/, good[0, 200] => /4096 bytes, and has 200/,
      "X#{good[1..]}" => /VCLK/, "#{good[0, 8]}\2#{good[9..]}" => /version 2/,
      "#{good[0, 8]}\0#{good[9..]}" => /not initialized/ }.each do |bytes, sentence|
      File.binwrite(other, bytes)
      error = assert_raises(Errno::EPROTO, sentence.inspect) { Clock.new(other) }
      assert_match sentence, error.message
      assert_includes error.message, other
    end
  end

  def test_a_page_that_one_may_not_read
    writer
    File.chmod(0, path)
    assert_succeeds(process do
      Process::UID.change_privilege(65_534) if Process.uid.zero?
      assert_match(/\APermission denied - #{path}: /, assert_raises(Errno::EACCES) { Clock.new(path) }.message)
    end)
  end

  def test_an_update_that_never_ends
    writer.close
    clock
    File.binwrite(path, [7].pack("L"), SEQ_COUNT)
    took = elapsed do
      assert_match(/its writer has died/, assert_raises(Errno::ETIMEDOUT) { clock.snapshot }.message)
    end
    assert_operator took, :<, 5
    Clock::Writer.create(path) { |next_writer| next_writer.write(page) }
    assert_equal 1000, clock.snapshot.time_sec
  end

  def test_a_file_that_is_cut_is_an_error_of_a_checked_clock
    writer.close
    clock(checked: true)
    File.truncate(path, 5)
    assert_match(/cut/, assert_raises(Errno::EPROTO) { clock.snapshot }.message)
    assert_raises(Errno::EPROTO) { clock.now }
    assert_raises(Errno::EPROTO) { clock.wait(0, timeout: 0) }
  end

  def test_a_closed_clock_refuses
    writer
    clock.close
    assert_nil clock.close
    [-> { clock.snapshot }, -> { clock.now }, -> { clock.wait(0) }, -> { clock.wait_until_past(0) }].each do |call|
      error = assert_raises(Shmhot::ClosedError, &call)
      assert_equal "Bad file descriptor - this VMClock is closed", error.message
    end
    assert_equal "#<Shmhot::VMClock closed>", clock.inspect
  end

  def test_the_interval_must_be_positive
    writer
    assert_raises(ArgumentError) { Clock.new(path, interval: 0) }
    assert_raises(ArgumentError) { Clock.new(path, interval: -1) }
  end

  # The fields of one update carry one number.
  def test_many_threads_on_one_clock_beside_a_writer
    writer.write(numbered(0))
    writer.close
    clock
    process { Clock::Writer.create(path) { |busy| (1..).each { |number| busy.write(numbered(number)) } } }
    threads = Array.new(8) do |i|
      Thread.new do
        seen = []
        while seen.size < 50
          numbers = i.even? ? numbers_of_a_snapshot : numbers_of_a_time
          assert_equal numbers[0], numbers[1]
          seen << numbers if seen.last != numbers
        end
        seen
      end
    end
    Timeout.timeout(60) do
      threads.each { |thread| assert_equal thread.value.sort, thread.value, "the page went back" }
    end
  end

  # Threads take turns where it is worst: between a call and the reading of what it has brought.
  def test_threads_do_not_see_each_other_s_results
    writer.write(page(disruption_marker: 5))
    expected = clock.snapshot
    turns = TracePoint.new(:c_return) { |call| Thread.pass if call.defined_class == Fiddle::Function }
    turns.enable
    snapshots = Thread.new { Array.new(500) { clock.snapshot } }
    times = Thread.new { Array.new(500) { clock.now } }
    assert_equal [expected], snapshots.value.uniq
    assert_equal [[5, expected.seq_count]], times.value.map { |time| [time.disruption_marker, time.seq_count] }.uniq
  ensure
    turns.disable
  end

  def test_threads_close_a_clock_that_others_read
    writer
    10.times do
      shared = Clock.new(path)
      readers = Array.new(3) { Thread.new { assert_raises(Shmhot::ClosedError) { loop { shared.snapshot } } } }
      Array.new(2) { Thread.new { shared.close } }.each(&:join)
      readers.each(&:value)
    end
  end

  def test_a_child_reads_on_after_a_fork
    writer.write(live_page)
    clock
    assert_succeeds(process do
      assert_equal 1_000_000, clock.now.maxerror_ns
      assert clock.wait_until_past(clock.now.latest_ns, timeout: 10)
      clock.close
      assert_raises(Shmhot::ClosedError) { clock.now }
    end)
    assert_operator clock.now.time_ns, :>, 0
  end

  def test_unclosed_clocks_are_freed
    writer
    GC.start
    before = descriptors
    10.times do
      100.times { Clock.new(path, checked: true).snapshot }
      GC.start
    end
    # The last ones may still be on the stack.
    assert_operator descriptors, :<, before + 50
    clocks = Array.new(10) { Clock.new(path, checked: true) }
    assert_operator descriptors, :>=, before + 10
    clocks.each(&:close)
  end

  def test_a_failed_open_leaves_nothing
    File.write(path, "no page")
    before = descriptors
    100.times { assert_raises(Errno::EPROTO) { Clock.new(path) } }
    assert_equal before, descriptors
  end

  private

  def numbered(number)
    page(disruption_marker: number, time_maxerror_nanosec: number, flags: BOUNDED)
  end

  def numbers_of_a_snapshot
    taken = clock.snapshot
    [taken.disruption_marker, taken.time_maxerror_nanosec, taken.seq_count]
  end

  def numbers_of_a_time
    time = clock.now
    [time.disruption_marker, time.maxerror_ns, time.seq_count]
  end

  def descriptors
    Dir.children("/proc/self/fd").size
  end
end
