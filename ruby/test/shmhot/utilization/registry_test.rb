# frozen_string_literal: true

require "test_helper"

class RegistryTest < Minitest::Test
  include SegmentHelper

  def registry
    @registry ||= Registry.new
  end

  def test_metrics_are_kept
    assert_same registry.metric(:a), registry.metric("a")
    registry.metric(:a).increment
    registry.metric(:b).set(5)
    assert_equal({ a: 1, b: 5 }, registry.values)
    assert_nil registry.observer
  end

  def test_what_was_counted_before_is_written_when_an_observer_comes
    registry.metric(:requests_total).set(7)
    registry.metric(:unknown).set(9)
    registry.observer = observer
    assert_same observer, registry.observer
    assert_equal 7, seen(:requests_total)
    registry.metric(:requests_active).increment
    assert_equal 1, seen(:requests_active)
  end

  def test_the_observer_leaves_and_comes_back
    registry.observer = observer
    requests = registry.metric(:requests_total)
    requests.set(5)
    registry.observer = nil
    requests.set(99)
    assert_equal [5, 99], [seen(:requests_total), registry.values[:requests_total]]
    registry.observer = observer
    assert_equal 99, seen(:requests_total)
  end

  # What Async::Utilization asks of an observer: a schema that gives name, type and offset, and a buffer.
  def test_an_observer_of_another_library
    field = Struct.new(:name, :type, :offset).new(:requests_total, :u64, 8)
    buffer = IO::Buffer.new(16)
    foreign = Struct.new(:schema, :buffer).new({ requests_total: field }, buffer)
    registry.metric(:requests_total).set(5)
    registry.observer = foreign
    registry.metric(:requests_total).increment
    registry.metric(:other).increment
    assert_equal [0, 6], [buffer.get_value(:u64, 0), buffer.get_value(:u64, 8)]
    foreign.buffer = nil
    registry.observer = foreign
    assert_equal 7, registry.metric(:requests_total).increment
    assert_equal 6, buffer.get_value(:u64, 8)
  end

  # And what a registry of Async::Utilization does with one of ours.
  def test_a_registry_of_another_library_writes_where_schema_and_buffer_say
    field = observer.schema[:requests_total]
    observer.buffer.set_value(field.type, field.offset, 12)
    assert_equal [:requests_total, 12], [field.name, seen(:requests_total)]
    assert_nil observer.schema[:other]
    assert_equal SIZE, observer.buffer.size
  end

  def test_beside_the_original
    begin
      require "async/utilization"
    rescue LoadError
      skip "gem async-utilization is not installed"
    end
    theirs = Async::Utilization::Registry.new
    theirs.metric(:requests_total).set(3)
    theirs.observer = observer
    theirs.metric(:requests_total).increment
    assert_equal 4, seen(:requests_total)
    registry.observer = Async::Utilization::Observer.open(Async::Utilization::Schema.build(load: :f64), path, SIZE, OFFSET + 16)
    registry.metric(:load).set(0.5)
    assert_equal 0.5, seen(:load)
  end

  def test_numbers_by_name
    registry.observer = observer
    assert_equal [1, 2, 1], [registry.increment(:requests_total), registry.increment(:requests_total), registry.decrement(:requests_total)]
    assert registry.set(:load, 1.5)
    assert_equal 1, registry.track(:requests_active) { seen(:requests_active) }
    assert_equal({ requests_total: 1, load: 1.5, requests_active: 0 }, registry.values)
  end

  def test_threads_get_the_same_metric
    shared = registry
    metrics = Array.new(16) { Thread.new { Array.new(100) { |i| shared.metric("m#{i}") } } }.map(&:value)
    assert_equal 1, metrics.map { |all| all.map(&:object_id) }.uniq.size
  end

  def test_namespaces
    accepts = registry.namespace("socket_accept")
    assert_equal [:socket_accept, registry], [accepts.name, accepts.registry]
    accepts.metric(:waiting).set(2)
    accepts.namespace(:tls).metric("failed").increment
    assert_same accepts.metric(:waiting), registry.metric(:socket_accept_waiting)
    assert_equal({ socket_accept_waiting: 2, socket_accept_tls_failed: 1 }, registry.values)
  end
end
