# frozen_string_literal: true

require "test_helper"

# How streams begin and end, and what they tell of themselves.
class CircBuffTest < Minitest::Test
  include StreamHelper

  def test_names_in_shared_memory
    assert_equal "sm_KpdRbDVLaISM29j1SiJq", CircBuff.short_name("demo")
    assert_equal Encoding::UTF_8, CircBuff.short_name("Gerät".encode("ISO-8859-1")).encoding
    assert_equal CircBuff.short_name("Gerät"), CircBuff.short_name("Gerät".encode("ISO-8859-1"))
    assert_raises(ArgumentError) { CircBuff.short_name("a\0b") }
    assert_raises(ArgumentError) { CircBuff.new("a\0b") }
    assert_raises(Errno::EINVAL) { CircBuff.new("") }
  end

  def test_close_removes_all
    stream.metadata = {}
    assert_equal 4, leftovers.size
    assert_equal [0o600] * 4, leftovers.map { |path| File.stat(path).mode & 0o777 }
    stream.close
    assert_empty leftovers
    stream.close
    assert_predicate stream, :closed?
    { write: ["x" * 16], reserve: [1], commit: [1], configure: [], info: [], detach: [], metadata: [nil] }.each do |name, arguments|
      name = :metadata= if name == :metadata
      assert_raises(Shmhot::ClosedError, name) { stream.send(name, *arguments) }
    end
  end

  def test_mode
    stream(mode: 0o640)
    header = "/dev/shm/#{CircBuff.short_name(stream_name)}"
    assert_equal 0o640, File.stat(header).mode & 0o777
  end

  def test_open_closes
    assert_equal 7, CircBuff.open(stream_name, dtype: :f32, frames: 1) { 7 }
    assert_raises(IOError) { CircBuff.open(stream_name, dtype: :f32, frames: 1) { raise IOError } }
    assert_empty leftovers
  end

  def test_what_is_not_closed_goes_with_the_process
    program = "require 'shmhot'; Shmhot::CircBuff.new('#{stream_name}', dtype: :f32, frames: 1); puts :made"
    output, status = Open3.capture2e(RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", "-e", program)
    assert_predicate status, :success?
    assert_equal "made\n", output
    assert_empty leftovers
  end

  def test_detach_leaves_the_stream_to_the_next_writer
    stream.write(frames([1]))
    stream.detach
    assert_equal frames([1]), read.first
    assert_equal :ended, mirror.state
    CircBuff.open(stream_name, dtype: :f32, shape: 4, frames: 10, rate: 100) do |stream|
      stream.write(frames([2]))
      numbers, _, span = read
      assert_equal [frames([2]), 1, 0], [numbers, span.first, span.lost]
    end
    assert_raises(Shmhot::ClosedError) { stream.detach }
  end

  def test_a_name_has_one_living_writer
    pid = writer { sleep }
    error = assert_raises(Errno::EBUSY) { stream }
    assert_includes error.message, "is being written by process #{pid}"
    kill(pid)
    stream.write(frames([1]))
    assert_equal frames([1]), read.first
  end

  def test_the_format_may_come_later
    stream = kept(CircBuff.new(stream_name))
    assert_nil stream.format
    assert_equal :unconfigured, mirror.state
    assert_nil mirror.format
    assert_nil mirror.read
    assert_nil(mirror.view { flunk })
    assert_match(/configure/, assert_raises(Errno::EAGAIN) { stream.write("a") }.message)
    assert_raises(Errno::EAGAIN) { stream.reserve(1) }
    assert stream.configure(dtype: :U8, frames: 3, rate: 1)
    assert_equal 3, stream.format.frames
    stream.write("abc")
    assert_equal "abc", mirror.read.first.get_string(0, 3)
  end

  def test_configure_changes_what_it_is_told
    refute stream.configure(rate: 100)
    assert stream.configure(rate: 50)
    assert_equal CircBuff::Format.new(:f32, [4], 10, 50.0, ""), stream.format
    assert stream.configure(seconds: 2, key: "k")
    assert_equal CircBuff::Format.new(:f32, [4], 100, 50.0, "k"), stream.format
    assert stream.configure(rate: 25)
    assert_equal 50, stream.format.frames
    assert stream.configure(frames: 7, dtype: :s16, shape: [])
    assert_equal CircBuff::Format.new(:s16, [], 7, 25.0, "k"), stream.format
    assert_raises(ArgumentError) { stream.configure(speed: 1) }
    assert_raises(Errno::EINVAL) { stream.configure(rate: -1) }
    assert_equal 7, stream.format.frames
    assert_equal 4, stream.info.generation
  end

  def test_info
    info = stream(key: "k").info
    assert_equal [0, 0, 0, nil, :alive, 2, Process.pid, 0, nil, true],
                 info.to_h.values_at(:begin, :oldest, :written, :last_write, :state, :layout, :pid, :generation,
                                     :metadata_generation, :ours)
    assert_predicate info, :ours?
    assert_predicate info, :frozen?
    stream.write(frames(1..15))
    stream.metadata = {}
    info = stream.info
    assert_equal [0, 5, 15, 1], info.to_h.values_at(:begin, :oldest, :written, :metadata_generation)
    assert_in_delta Time.now, info.last_write, 20
    stream.configure(rate: 5)
    assert_equal [15, 1], stream.info.to_h.values_at(:begin, :generation)
  end

  def test_metadata
    assert_nil stream.metadata
    assert_nil mirror.metadata
    stream.metadata = { dims: %w[time ch], axes: { ch: { kind: "coord", data: %w[C3 C4] } },
                        attrs: { "gain" => 20.5, nested: [1, nil, { "$tuple": [1] }] }, key: "Gerät" }
    metadata = mirror.metadata
    assert_equal [%w[time ch], { "gain" => 20.5, "nested" => [1, nil, { "$tuple" => [1] }] }, "Gerät"],
                 metadata.values_at("dims", "attrs", "key")
    assert_equal({ "kind" => "coord", "unit" => "", "dims" => ["ch"], "dtype" => "<U2", "shape" => [2], "data" => %w[C3 C4] },
                 metadata["axes"]["ch"])
    assert_equal %i[dims axes attrs key], stream.metadata.keys
    # What was read can be written.
    stream.metadata = metadata
    assert_equal metadata, mirror.metadata
    stream.metadata = nil
    assert_nil mirror.metadata
    assert_nil stream.metadata
  end

  def test_metadata_of_any_size
    text = "é" * 100_000
    stream.metadata = { attrs: { text: text } }
    assert_equal text, mirror.metadata["attrs"]["text"]
  end

  def test_metadata_that_cannot_be
    stream.metadata = { key: "k" }
    error = assert_raises(Errno::EINVAL) { stream.metadata = { axes: { ch: { kind: "coord", data: [1, "a"], dtype: "<i4" } } } }
    assert_match(/axes\.ch\.data/, error.message)
    assert_raises(JSON::GeneratorError) { stream.metadata = { attrs: { x: Float::NAN } } }
    assert_equal "k", mirror.metadata["key"]
    assert_equal({ key: "k" }, stream.metadata)
    CircBuff.open("#{stream_name}0", dtype: :U8, frames: 1, layout: 0) do |old|
      assert_raises(Errno::EOPNOTSUPP) { old.metadata = {} }
    end
  end

  def test_a_forked_child_has_no_part_in_it
    stream.write(frames([1]))
    assert_succeeds(process do
      { write: ["x" * 16], reserve: [1], commit: [1], configure: [{ rate: 5 }], metadata: [nil], info: [] }.each do |name, arguments|
        options = arguments.grep(Hash).first || {}
        name = :metadata= if name == :metadata
        assert_raises(Shmhot::ForkError, name.to_s) { stream.send(name, *(arguments - [options]), **options) }
      end
      stream.close
    end)
    stream.write(frames([2]))
    assert_equal frames(1..2), read.first
  end
end
