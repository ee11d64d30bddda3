# frozen_string_literal: true

require "test_helper"

# Making pages.
class WriterTest < Minitest::Test
  include PageHelper

  def test_a_new_page_is_whole_and_says_nothing_yet
    writer
    assert_equal [4096, 0o644], [File.size(path), File.stat(path).mode & 0o7777]
    assert_equal :unknown, clock.snapshot.status
    assert_predicate clock.snapshot.seq_count, :even?
    kept(Clock::Writer.create("#{path}-2", mode: 0o600))
    assert_equal 0o600, File.stat("#{path}-2").mode & 0o7777
  end

  def test_a_page_is_written_from_a_snapshot_or_fields_or_both
    writer.write(page(flags: 3))
    assert_equal [1000, 3], [clock.snapshot.time_sec, clock.snapshot.flags]
    writer.write(page(flags: 3), flags: 5, tai_offset_sec: -2)
    assert_equal [1000, 5, -2], [clock.snapshot.time_sec, clock.snapshot.flags, clock.snapshot.tai_offset_sec]
    writer.write(time_sec: 8)
    assert_equal [8, 0], [clock.snapshot.time_sec, clock.snapshot.flags]
    assert_raises(ArgumentError) { writer.write(page, flag: 1) }
    assert_raises(RangeError) { writer.write(page, flags: -1) }
    assert_equal 8, clock.snapshot.time_sec
  end

  def test_seq_count_grows_by_two_whatever_the_page_says
    writer.write(page)
    first = clock.snapshot.seq_count
    writer.write(page(seq_count: 12_345))
    assert_equal first + 2, clock.snapshot.seq_count
    assert_predicate first, :even?
  end

  def test_the_next_writer_goes_on_with_the_page
    writer.write(page)
    error = assert_raises(Errno::EBUSY) { Clock::Writer.create(path) }
    assert_includes error.message, path
    before = clock.snapshot
    writer.close
    Clock::Writer.create(path) do |following|
      assert_equal before, clock.snapshot
      following.write(page(flags: 1))
    end
    assert_equal before.with(flags: 1, seq_count: before.seq_count + 2), clock.snapshot
    assert_equal 2, Clock::Writer.open(path) { 2 }
  end

  def test_remove
    writer
    clock
    assert_nil writer.remove
    refute_path_exists path
    assert_equal 1, clock.snapshot.version
    assert_predicate writer, :closed?
    assert_raises(Shmhot::ClosedError) { writer.remove }
  end

  def test_a_closed_writer_refuses
    assert_nil writer.close
    assert_nil writer.close
    error = assert_raises(Shmhot::ClosedError) { writer.write(page) }
    assert_equal "Bad file descriptor - this Writer is closed", error.message
    assert_raises(Shmhot::ClosedError) { writer.remove }
    assert_path_exists path
  end

  def test_what_is_no_page_is_left_alone
    File.write(path, "a letter to a friend")
    error = assert_raises(Errno::EPROTO) { Clock::Writer.create(path) }
    assert_includes error.message, path
    assert_equal "a letter to a friend", File.read(path)
    assert_raises(Errno::ENOENT) { Clock::Writer.create(File.join(@folder, "nowhere/page")) }
    File.symlink(path, "#{path}-link")
    assert_raises(Errno::ELOOP) { Clock::Writer.create("#{path}-link") }
  end

  def test_a_child_is_refused_and_may_close
    writer.write(page)
    other = kept(Clock::Writer.create("#{path}-2"))
    assert_succeeds(process do
      assert_match(/made before a fork/, assert_raises(Shmhot::ForkError) { writer.write(page) }.message)
      assert_raises(Shmhot::ForkError) { other.remove }
      writer.close
    end)
    assert_path_exists "#{path}-2"
    assert_raises(Errno::EBUSY, "the child's close must not give up the parent's page") { Clock::Writer.create(path) }
    writer.write(page(flags: 2))
    assert_equal 2, clock.snapshot.flags
  end

  def test_an_unclosed_writer_lets_go_of_its_page
    20.times do
      Thread.new { Clock::Writer.create(path).write(page) }.join # whose stack goes with it
      GC.start
    end
    assert_equal 1000, clock.snapshot.time_sec
  end
end
