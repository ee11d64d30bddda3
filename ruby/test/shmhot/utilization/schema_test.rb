# frozen_string_literal: true

require "test_helper"

class SchemaTest < Minitest::Test
  include SegmentHelper

  Field = Schema::Field

  def test_fields_are_packed_in_order_of_declaration
    schema = Schema.build(a: :u32, b: :u64, c: :f64, d: :U16, e: :u64)
    assert_equal [[:a, :u32, 0], [:b, :u64, 4], [:c, :f64, 12], [:d, :U16, 20], [:e, :u64, 22]], schema.to_a
    assert_equal [30, :packed], [schema.size, schema.layout]
    assert_equal [0, 4, 12, 16], Schema.build(Utilization::DEFAULT_SCHEMA).fields.map(&:offset)
    assert_equal [0, []], [Schema.build({}).size, Schema.build({}).to_a]
  end

  def test_aligned_fields_begin_at_multiples_of_their_sizes
    schema = Schema.aligned(a: :U8, b: :u64, c: :u16, d: :S8, e: :f32)
    assert_equal [0, 8, 16, 18, 20], schema.fields.map(&:offset)
    assert_equal [24, :aligned], [schema.size, schema.layout]
  end

  # The library computes offsets by itself, and has to come to the same.
  def test_offsets_are_those_of_the_library
    [Schema.build(TYPES.to_h { |type| [type, type] }), Schema.aligned(TYPES.to_h { |type| [type, type] })].each do |schema|
      schema.native do |address|
        assert_equal schema.size, library("observer_schema_size").call(address)
        schema.fields.each_with_index do |field, index|
          out = [40].pack("J").ljust(40, "\0")
          Shmhot.check(library("observer_schema_field", 3).call(address, index, out))
          name, type, offset = out.unpack("x8J x16 C x3 L")
          assert_equal [field.name.to_s, field.offset], [Fiddle::Pointer.new(name).to_s, offset]
          assert_equal field.type.to_s, Fiddle::Pointer.new(Shmhot::Native::OBSERVER_TYPE_NAME.call(type)).to_s
        end
      end
    end
  end

  def test_all_types_have_the_sizes_of_io_buffer
    buffer = IO::Buffer.new(64)
    TYPES.each do |type|
      size = Schema.build(x: type).size
      buffer.set_value(type, buffer.size - size, 1)
      assert_raises(ArgumentError, type) { buffer.set_value(type, buffer.size - size + 1, 1) }
    end
  end

  def test_aliases_become_the_types_of_io_buffer
    aliases = { u8: :U8, s8: :S8, i8: :S8, i16: :s16, I16: :S16, i32: :s32, I32: :S32, i64: :s64, I64: :S64 }
    aliases.each { |name, type| assert_equal [[:x, type, 0]], Schema.build(x: name).to_a }
    assert_equal [[:x, :u64, 0]], Schema.build("x" => "u64").to_a
    [:u128, :float, nil, 8, ""].each { |type| assert_raises(ArgumentError, type.inspect) { Schema.build(x: type) } }
  end

  def test_fields_may_say_what_they_are
    field = Schema.build(load: { type: :f64, kind: :gauge, unit: "cores", help: "What is used." })[:load]
    assert_equal [:load, :f64, 0, :gauge, "cores", "What is used."],
                 [field.name, field.type, field.offset, field.kind, field.unit, field.help]
    assert_predicate field, :frozen?
    assert_raises(ArgumentError) { Schema.build(load: { type: :f64, kind: :number }) }
    assert_raises(ArgumentError) { Schema.build(load: { type: :f64, units: "cores" }) }
  end

  def test_fields_are_found_by_name
    assert_equal :u64, schema[:requests_total].type
    assert_equal :u64, schema["requests_total"].type
    assert_nil schema[:nothing]
  end

  def test_a_schema_of_fields_of_the_caller_s
    fields = [Field.new(name: :a, type: :u32, offset: 8), Field.new("b", :u64, 100)]
    schema = Schema.new(fields)
    assert_equal [[:a, :u32, 8], [:b, :u64, 100]], schema.to_a
    assert_equal [108, nil], [schema.size, schema.layout]
    assert_raises(ArgumentError) { schema.native { flunk } }
    assert_equal schema.to_a, Schema.from(schema.to_a).to_a
    assert_same schema, Schema.from(schema)
    assert_raises(ArgumentError) { Schema.new(fields + fields) }
    assert_raises(ArgumentError) { Schema.from([[:a, :u32, "0"]]) }
  end

  def test_names_that_the_library_refuses
    long = Schema.build("x" * 128 => :u8)
    assert_raises(Errno::EINVAL) { long.native { flunk } }
    assert_raises(Errno::EINVAL) { Schema.build("": :u8).native { flunk } }
    assert_raises(ArgumentError) { Schema.build("a\0b": :u8).native { flunk } }
  end

  private

  def library(name, parameters = 1)
    types = [Shmhot::Native::ADDRESS, Shmhot::Native::U32, Shmhot::Native::POINTER].first(parameters)
    Fiddle::Function.new(Shmhot::Native::LIBRARY[name], types, Shmhot::Native::I32)
  end
end
