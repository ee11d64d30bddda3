# frozen_string_literal: true

require "test_helper"

class NativeTest < Minitest::Test
  Native = Shmhot::Native

  # C types by the widths that Fiddle knows; a pointer may be declared as an address.
  KINDS = {
    "int32_t" => [Native::I32], "uint32_t" => [Native::U32], "uint16_t" => [Native::U16], "int64_t" => [Native::I64],
    "uint64_t" => [Native::U64], "size_t" => [Native::SIZE], "double" => [Native::F64],
    "*" => [Native::ADDRESS, Native::POINTER]
  }.freeze

  def declarations
    text = Dir["#{HEADERS}/*.h"].sum("") { |path| File.read(path) }.gsub(%r{/\*.*?\*/}m, "")
    text.scan(/^([a-z][\w \t]*[ *])((?:shmhot|hotpath|vmclock|observer|circbuf)_\w+)\(([^)]*)\);/m).to_h do |returns, name, parameters|
      parameters = parameters.strip == "void" ? [] : parameters.split(",")
      [name.to_sym, [returns, *parameters]]
    end
  end

  def kind(declaration)
    declaration.include?("*") ? "*" : declaration[/\w+_t|double/]
  end

  def test_prototypes_agree_with_the_headers
    declared = declarations
    assert_operator declared.size, :>=, Native::PROTOTYPES.size
    Native::PROTOTYPES.each do |name, types|
      assert declared.key?(name), "#{name} is in no header"
      kinds = declared[name].map { |declaration| kind(declaration) }
      assert_equal kinds.size, types.size, "#{name}: number of parameters"
      kinds.zip(types).each_with_index do |(kind, type), index|
        assert_includes KINDS.fetch(kind), type, "#{name}: #{index.zero? ? "returned type" : "parameter #{index}"}"
      end
    end
  end

  def test_constants_agree_with_the_headers
    defines = Dir["#{HEADERS}/*.h"].sum("") { |path| File.read(path) }
                                   .scan(/^#define (?:SHM)?HOT(?:PATH)?_(\w+) \(?(-?\w+?)u?\)?$/)
                                   .to_h { |name, value| [name, Integer(value)] }
    %w[EPANIC ETHREAD EFORK EUNHEALTHY ABI_VERSION].each do |name|
      assert_equal defines.fetch(name), Native.const_get(name), name
    end
    ours = Shmhot::HotpathRing.constants.grep(/\A(OP|CMD|F)_|\ANO_TIMEOUT\z/) - [:F_REFUSED]
    assert_operator ours.size, :>, 15
    ours.each { |name| assert_equal defines.fetch(name.to_s), Shmhot::HotpathRing.const_get(name), name }
  end

  def test_constants_of_the_clock_agree_with_the_header
    defines = File.read("#{HEADERS}/vmclock.h").scan(/^#define VMCLOCK_(\w+) \(?(\w+?)u?(?: << (\d+))?\)?$/)
    assert_operator defines.size, :>, 30
    defines.each do |name, value, shift|
      next if name == "NO_TIMEOUT" # waiting is done in Ruby

      assert_equal Integer(value) << shift.to_i, Shmhot::VMClock.const_get(name), name
    end
  end

  Utilization = Shmhot::Utilization
  # Ruby's types of IO::Buffer in C.
  HEADER_NAMES = { U8: "U8", S8: "S8" }.merge(
    %w[u s f].product([16, 32, 64]).reject { |kind| kind == ["f", 16] }.flat_map do |letter, bits|
      name = "#{letter.upcase}#{bits}"
      [[:"#{letter}#{bits}", "#{name}_LE"], [name.to_sym, "#{name}_BE"]]
    end.to_h
  ).freeze

  # How Array#pack writes C types.
  CODES = { "uint8_t" => "C", "uint16_t" => "S", "int16_t" => "s", "uint32_t" => "L", "int64_t" => "q", "uint64_t" => "Q",
            "size_t" => "J" }.freeze

  def fields(struct)
    text = File.read("#{HEADERS}/vmclock.h").gsub(%r{/\*.*?\*/}m, "")
    text[/\{([^{}]*)\}\s*#{struct};/m, 1].scan(/(\w+_t) (\w+)(?:\[(\d+)\])?;/).to_h do |type, name, count|
      [name.to_sym, count ? "x#{count}" : CODES.fetch(type)]
    end
  end

  def test_structs_of_the_clock_agree_with_the_header
    assert_equal fields("vmclock_snapshot_t"), Shmhot::VMClock.const_get(:PAGE)
    assert_equal fields("vmclock_time_t"), Shmhot::VMClock.const_get(:TIME)
    assert_equal fields("vmclock_options_t").values.join, Shmhot::VMClock.const_get(:OPTIONS)
  end

  def test_structs_of_the_observer_agree_with_the_header
    text = File.read("#{HEADERS}/observer.h").gsub(%r{/\*.*?\*/}m, "")
    packed = lambda do |struct|
      text[/\{([^{}]*)\}\s*#{struct};/m, 1].scan(/^ *(?:const )?(\w+) (\*?)(\w+)(?:\[(\d+)\])?;/).map do |type, pointer, _, count|
        next "J" unless pointer.empty?

        type == "char" ? "Z#{count}" : CODES.fetch(type)
      end.join
    end
    native = Utilization.const_get(:NativeSchema)
    assert_equal packed.call("observer_field_t"), native::FIELD
    assert_equal native::FIELD_BYTES, Array.new(8, 0).pack(native::FIELD).bytesize
    store = ->(name) { Utilization::SegmentStore.const_get(name) }
    assert_equal packed.call("observer_store_options_t"), store[:OPTIONS]
    assert_equal store[:OPTIONS_BYTES], Array.new(5, 0).pack(store[:OPTIONS]).bytesize
    assert_equal packed.call("observer_worker_t"), store[:WORKER]
    assert_equal store[:WORKER_BYTES], [*Array.new(7, 0), ""].pack(store[:WORKER]).bytesize
  end

  def test_constants_of_the_observer_agree_with_the_header
    defines = File.read("#{HEADERS}/observer.h").scan(/^#define OBSERVER_(\w+) (\d+)$/).to_h { |name, value| [name, Integer(value)] }
    Utilization.const_get(:Type)::ALL.each_value do |type|
      assert_equal defines.fetch(HEADER_NAMES.fetch(type.name)), type.code, type.name
    end
    store = ->(name) { Utilization::SegmentStore.const_get(name) }
    { READ_ONLY: store[:READ_ONLY], CHECKED: store[:CHECKED],
      **store[:STATES].each_with_index.to_h { |state, code| [state.upcase, code] },
      **store[:FORMATS].each_with_index.to_h { |format, code| [format.upcase, code] },
      UNSIGNED: store[:NUMBERS].key("Q"), SIGNED: store[:NUMBERS].key("q"), FLOAT: store[:NUMBERS].key("d"),
      UNKNOWN: 0, **%i[COUNTER GAUGE].to_h { |kind| [kind, Utilization::Schema.const_get(:KINDS).index(kind.downcase)] },
      **Utilization::Schema.const_get(:LAYOUTS).each_with_index.to_h { |layout, code| [layout.upcase, code] } }.each do |name, code|
      assert_equal defines.fetch(name.to_s), code, name
    end
  end

  CircBuff = Shmhot::CircBuff
  CircMirror = Shmhot::CircMirror

  # How Array#pack writes the structs of circbuf.h, by name.
  def structs_of_circbuf
    text = File.read("#{HEADERS}/circbuf.h").gsub(%r{/\*.*?\*/}m, "")
    text.scan(/typedef struct \{([^{}]*)\} (\w+);/m).to_h do |fields, name|
      codes = fields.scan(/^ *(?:const )?(\w+) (\*?)(\w+)(?:\[(\d+)\])?;/).map do |type, pointer, field, count|
        next "x#{count}" if field == "reserved" && count

        code = pointer.empty? ? { "double" => "d", "char" => "a", **CODES }.fetch(type) : "J"
        "#{code}#{count}"
      end
      [name, codes.join]
    end
  end

  def test_structs_of_circbuf_agree_with_the_header
    ours = { format: [CircBuff, :FORMAT], options: [CircBuff, :OPTIONS], reservation: [CircBuff, :RESERVATION],
             info: [CircBuff, :INFO], mirror_options: [CircMirror, :OPTIONS], span: [CircMirror, :SPAN],
             view: [CircMirror, :VIEW], memory: [CircBuff.const_get(:Memory), :MEMORY] }
    declared = structs_of_circbuf
    ours.each do |name, (type, constant)|
      codes = type.const_get(constant)
      codes = codes.values.join if codes.is_a?(Hash)
      assert_equal declared.delete("circbuf_#{name}_t"), codes, name
      size = codes.scan(/([a-zA-Z])(\d*)/).sum { |code, count| { "x" => 1, "a" => 1, "C" => 1, "L" => 4 }.fetch(code, 8) * [count.to_i, 1].max }
      assert_equal size, type.const_get(:"#{constant}_BYTES"), name
    end
    assert_empty declared
  end

  def test_constants_of_circbuf_agree_with_the_header
    defines = File.read("#{HEADERS}/circbuf.h").scan(/^#define CIRCBUF_(\w+) (\d+)$/).to_h { |name, value| [name, Integer(value)] }
    layouts = CircBuff.const_get(:LAYOUTS)
    assert_equal({ "LAYOUT_V1" => layouts[1], "LAYOUT_V0" => layouts[0], "FROM_NOW" => CircMirror.const_get(:FROM_NOW),
                   "MAX_DIMENSIONS" => CircBuff.const_get(:MAX_DIMENSIONS), "MAX_KEY" => CircBuff.const_get(:MAX_KEY),
                   **CircBuff.const_get(:STATES).each_with_index.to_h { |state, code| [state.upcase.to_s, code] } }, defines)
  end

  def test_structs_agree_with_the_headers
    header = File.read("#{HEADERS}/hotpath.h").gsub(%r{/\*.*?\*/}m, "")
    fields = header[/\{([^}]*)\}\s*hotpath_stats_t;/m, 1].scan(/(\w+);/).flatten.map(&:to_sym)
    ring = Shmhot::HotpathRing.new
    assert_equal fields, [:size, *ring.stats.keys]
  ensure
    ring&.close
  end

  def test_refuses_a_library_of_another_version
    Dir.mktmpdir do |folder|
      library = compile(folder, "unsigned shmhot_abi_version(void) { return 77; }")
      status, output = load_with(library)
      refute status.success?
      assert_includes output, "#{library} has ABI version 77, and shmhot #{Shmhot::VERSION} for Ruby needs 0"
    end
  end

  def test_says_where_it_looked_for_the_library
    status, output = load_with("/nowhere/libshmhot.so")
    refute status.success?
    assert_match(%r{cannot load libshmhot: /nowhere/libshmhot.so: .*set SHMHOT_LIBRARY}, output)
  end

  private

  def compile(folder, source)
    path = File.join(folder, "libother.so")
    output, status = Open3.capture2e("cc", "-shared", "-fPIC", "-x", "c", "-", "-o", path, stdin_data: source)
    assert status.success?, output
    path
  end

  def load_with(library)
    output, status = Open3.capture2e({ "SHMHOT_LIBRARY" => library }, RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", "-e", 'require "shmhot"')
    [status, output]
  end
end
