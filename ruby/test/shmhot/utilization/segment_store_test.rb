# frozen_string_literal: true

require "test_helper"

class SegmentStoreTest < Minitest::Test
  include SegmentHelper

  Store = Utilization::SegmentStore
  PAGE = IO::Buffer::PAGE_SIZE

  def store(**options)
    @store ||= kept(Store.open(path, replace: true, **options))
  end

  def attached(**options)
    kept(Store.attach(path, **options))
  end

  # A worker's process, which ends when the test does or when it is told by #finish.
  def worker(offset, schema = self.schema)
    ready, tell = IO.pipe
    pid = process do
      Observer.open(schema, path, SIZE, offset) do |observer|
        registry = Registry.new
        registry.observer = observer
        yield registry
        tell.write("x")
        sleep
      end
    end
    Timeout.timeout(20) { ready.read(1) }
    [ready, tell].each(&:close)
    pid
  end

  def finish(pid)
    Process.kill(:KILL, pid)
    Process.wait(pid)
    @processes.delete(pid)
  end

  # As the original's supervisor does it: allocate, tell the worker, be told its schema, read, free.
  def test_the_life_of_a_worker
    assert_equal 0, store.allocate(:first, [])
    assert_equal({ offset: 0, schema: [] }, store.allocation(:first))
    assert_equal({}, store.read(:first))
    pid = worker(0) { |registry| registry.set(:requests_total, 12) && registry.set(:load, 0.5) }
    store.update_schema(:first, schema.to_a, service: "web", pid: pid)
    assert_equal({ offset: 0, schema: schema.to_a }, store.allocation(:first))
    assert_equal({ connections_active: 0, requests_total: 12, requests_active: 0, load: 0.5 }, store.read(:first))
    found = store.to_a
    assert_equal [[0, 0, "web", pid, :alive, store.read(:first)]], found.map { |worker| worker.to_a.values_at(0..4, 6) }
    assert_in_delta Time.now, found.first.since, 60
    store.free(:first)
    assert_equal [nil, nil, []], [store.read(:first), store.allocation(:first), store.to_a]
    assert_equal 0, seen(:requests_total, at: 0)
  end

  def test_segments_are_reused_in_the_order_in_which_they_became_free
    store(size: PAGE, segment_size: PAGE / 4)
    offsets = Array.new(4) { |i| store.allocate(i, schema.to_a) * 4 / PAGE }
    assert_equal [0, 1, 2, 3], offsets
    store.free(2)
    store.free(0)
    assert_equal [PAGE / 2, 0], [store.allocate(:a, schema), store.allocate(:b, schema)]
    assert_equal PAGE / 2, store.allocate(:a, schema), "a key has one segment"
  end

  def test_a_fresh_segment_has_no_numbers_of_a_dead_worker
    store(size: PAGE, segment_size: PAGE)
    offset = store.allocate(:dead, schema)
    finish(worker(offset) { |registry| registry.set(:requests_total, 99) })
    assert_equal 99, store.read(:dead)[:requests_total]
    store.free(:dead)
    assert_equal [offset, 0], [store.allocate(:fresh, schema), store.read(:fresh)[:requests_total]]
  end

  def test_grows_while_others_have_it_mapped
    store(size: PAGE, segment_size: PAGE)
    store.allocate(:first, schema)
    reader = attached(read_only: true)
    Observer.open(schema, path, PAGE, 0) do |observer|
      observer.set(:requests_total, 42)
      assert_equal [PAGE, 2 * PAGE], [store.allocate(:second, schema), store.size]
      observer.set(:requests_total, 99)
      assert_equal [99, 0], reader.map { |worker| worker.values[:requests_total] }
      20.times { |i| store.allocate(i, schema) }
      assert_equal [99, 22, 32 * PAGE], [store.read(:first)[:requests_total], reader.count, File.size(path)]
    end
  end

  def test_sizes
    assert_equal [8 * PAGE, 512, 8 * PAGE], [store.size, store.segment_size, File.size(path)]
    assert_equal 0o600, File.stat(path).mode & 0o7777
    { { size: 0 } => /size is 0/, { segment_size: 0.5 } => /segment_size is 0.5/, { segment_size: PAGE * 9 } => /more than the size/,
      { growth_factor: 1 } => /growth_factor is 1/ }.each do |options, sentence|
      assert_match sentence, assert_raises(ArgumentError) { Store.open(path, replace: true, **options) }.message
    end
  end

  def test_only_replaces_when_asked_to
    assert_raises(Errno::EEXIST) { Store.open(path) }
    assert_equal 8192, File.size(path)
    assert_equal :done, Store.open("#{path}-2", mode: 0o640) { |store| store.allocate(1, []) && :done }
    assert_equal 0o640, File.stat("#{path}-2").mode & 0o7777
    assert_raises(Errno::EEXIST) { Store.open("#{path}-2") }
    assert_equal 1, Store.attach("#{path}-2").count
  end

  def test_what_is_no_schema_and_what_is_too_long
    assert_raises(ArgumentError) { store.allocate(:a, [[:a, :invalid, 0]]) }
    assert_raises(ArgumentError) { store.allocate(:a, [[:a, :u32, 0], [:b, :u32, 5]]) }
    long = Schema.build((0..64).to_h { |i| ["f#{i}", :u64] })
    assert_match(/520 bytes, and the segment only 512/, assert_raises(Errno::EINVAL) { store.allocate(:a, long) }.message)
    store.allocate(:a, [])
    assert_raises(Errno::EINVAL) { store.update_schema(:a, long.to_a) }
    assert_equal 1, store.count
    assert_nil store.update_schema(:unknown, schema.to_a)
    assert_nil store.free(:unknown)
  end

  def test_all_types_are_read_as_they_were_written
    all = Schema.build(TYPES.to_h { |type| [type, type] })
    values = RANGES.transform_values(&:min).merge(FLOATS.to_h { |type| [type, -2.5] })
    [all, Schema.aligned(TYPES.to_h { |type| [type, type] })].each do |schema|
      Observer.open(schema, path, SIZE, store.allocate(:all, schema)) do |observer|
        [values, values.merge(RANGES.transform_values(&:max))].each do |expected|
          expected.each { |name, value| observer.set(name, value) }
          assert_equal expected, store.read(:all)
          assert_equal expected, attached(checked: true).first.values
        end
      end
    end
  end

  def test_totals_by_service
    %w[web web api].each_with_index do |service, i|
      observer = Observer.open(schema, path, SIZE, store.allocate(i, schema, service: service))
      kept(observer).set(:requests_total, 10 + i)
      observer.set(:load, 0.5)
    end
    store.allocate(:quiet, [])
    expected = { connections_active: 0, requests_total: 21, requests_active: 0, load: 1.0, worker_count: 2 }
    assert_equal({ "web" => expected, "api" => expected.merge(requests_total: 12, load: 0.5, worker_count: 1) }, store.totals)
    assert_equal [33, 21, 1.5, 0], [store.sum(:requests_total), store.sum("requests_total", service: "web"),
                                    store.sum(:load), store.sum(:unknown)]
    store.allocate(:nameless, schema)
    assert_equal 1, store.totals["unknown"][:worker_count]
  end

  def test_workers_help_themselves
    store
    child = process do
      registry = Registry.new
      registry.observer = Store.attach(path).observer(schema, service: "web")
      registry.increment(:requests_total)
      sleep
    end
    sleep 0.01 until store.any? { |worker| worker.values[:requests_total] == 1 }
    assert_equal [["web", child, :alive]], store.map { |worker| [worker.service, worker.pid, worker.state] }
    assert_equal 0, store.reap
    finish(child)
    assert_equal [[:dead, 1]], store.map { |worker| [worker.state, worker.values[:requests_total]] }
    assert_equal [1, 0], [store.reap, store.count]
  end

  def test_an_observer_gives_its_segment_back
    observer = store.observer(schema)
    assert_equal 1, store.count
    observer.close
    observer.close
    assert_equal 0, store.count
    last = store.observer(schema)
    store.close
    assert_nil last.close
    assert_equal 1, attached.count
  end

  def test_a_forked_worker_takes_a_segment_of_its_own
    registry = Registry.new
    registry.observer = kept(store.observer(schema, service: "web"))
    requests = registry.metric(:requests_total)
    quiet = registry.metric(:requests_active)
    requests.set(100)
    assert_succeeds(process do
      assert_equal [0, 1], [requests.value, store.count]
      requests.increment
      quiet.set(7)
      assert_equal [1, 2], [requests.increment - 1, store.count]
      own = store.find { |worker| worker.pid == Process.pid }
      assert_equal ["web", :alive, 2, 7], [own.service, own.state, *own.values.values_at(:requests_total, :requests_active)]
      registry.observer.close
      assert_equal 1, store.count
    end)
    assert_equal [101, [101]], [requests.increment, store.map { |worker| worker.values[:requests_total] }]
    assert_empty reports
  end

  def test_a_child_s_child_too
    registry = Registry.new
    registry.observer = kept(store.observer(schema))
    registry.increment(:requests_total)
    assert_succeeds(process do
      assert_succeeds(process { 3.times { registry.increment(:requests_total) } })
      registry.increment(:requests_total)
      assert_equal [1, 3, 1], store.map { |worker| worker.values[:requests_total] }
    end)
  end

  def test_a_child_that_gets_no_segment_goes_on_counting
    registry = Registry.new
    registry.observer = kept(store.observer(schema))
    registry.set(:requests_total, 3)
    assert_succeeds(process do
      File.unlink(path)
      assert_equal [1, 2], [registry.increment(:requests_total), registry.increment(:requests_total)]
      assert_equal 1, reports.size, reports
      assert_match(/metric requests_total was not written: No such file/, reports.first.first)
    end)
  end

  def test_threads_of_a_child_take_one_segment
    registry = Registry.new
    registry.observer = kept(store.observer(schema))
    metrics = schema.fields.map { |field| registry.metric(field.name) }
    assert_succeeds(process do
      Array.new(16) { |i| Thread.new { 100.times { metrics[i % 4].increment } } }.each(&:join)
      assert_equal 2, store.count
      assert_equal [400] * 4, store.find { |worker| worker.pid == Process.pid }.values.values
    end)
  end

  def test_resize
    store(size: PAGE)
    assert_equal [true, 4 * PAGE], [store.resize(4 * PAGE), store.size]
    assert_equal [true, 4 * PAGE], [store.resize(PAGE), store.size]
  end

  def test_descriptions_arrive
    described = Schema.aligned(load: { type: :f64, kind: :gauge, unit: "cores", help: "Was läuft." }, n: :U16)
    store.allocate(:a, described, service: "dienst-ä")
    reader = attached(read_only: true)
    assert_equal ["dienst-ä", { load: 0.0, n: 0 }], [reader.first.service, reader.first.values]
    assert_equal described.fields, reader.send(:schema, 0).fields
  end

  def test_prometheus_reads_it
    described = Schema.build(requests_total: { type: :u64, kind: :counter, help: "Requests that were answered." })
    kept(Observer.open(described, path, SIZE, store.allocate(:a, described, service: "web"))).set(:requests_total, 5)
    text = store.exposition
    assert_includes text, "# TYPE requests_total counter\n"
    assert_includes text, "# HELP requests_total Requests that were answered.\n"
    assert_match(/^requests_total\{.*service="web".*\} 5$/, text)
    assert_match(/# EOF\n\z/, store.exposition(:openmetrics))
    assert_raises(ArgumentError) { store.exposition(:json) }
    400.times { |i| store.allocate(i, schema, service: "x" * 100) }
    assert_equal 1 + 400 * 4 + 401, store.exposition.lines.grep_v(/^#/).size
  end

  def test_read_only
    store.allocate(:a, schema)
    reader = attached(read_only: true)
    [-> { reader.allocate(:b, schema) }, -> { reader.reap }].each { |call| assert_raises(Errno::EACCES, &call) }
    assert_equal 1, reader.count
  end

  def test_the_file_is_cut_under_a_checked_reader
    3.times { |i| store.allocate(i, schema) }
    reader = attached(read_only: true, checked: true)
    assert_equal 3, reader.count
    File.truncate(path, 1028)
    assert_match(/the file was cut/, assert_raises(Errno::EPROTO) { reader.to_a }.message)
  end

  def test_reopens_what_was_made_anew
    store.allocate(1, schema, service: "old")
    reader = attached(read_only: true)
    Store.open(path, replace: true) { |fresh| fresh.allocate(1, schema, service: "new") }
    assert_equal ["old"], reader.map(&:service)
    assert_nil reader.reopen
    assert_equal ["new"], reader.map(&:service)
  end

  def test_what_is_no_store
    assert_raises(Errno::ENOENT) { Store.attach("#{path}-2") }
    store.close
    File.truncate("#{path}.sidecar", 10)
    assert_raises(Errno::EPROTO) { Store.attach(path) }
  end

  def test_a_closed_store_refuses
    store.allocate(:a, schema)
    assert_nil store.close
    assert_nil store.close
    [-> { store.allocate(:b, schema) }, -> { store.read(:a) }, -> { store.to_a }, -> { store.size }, -> { store.reap }].each do |call|
      assert_equal "Bad file descriptor - this SegmentStore is closed", assert_raises(Shmhot::ClosedError, &call).message
    end
    assert_path_exists path
  end

  def test_the_name_that_later_releases_of_the_original_have
    assert_same Store, Utilization::SegmentAllocator
  end
end
