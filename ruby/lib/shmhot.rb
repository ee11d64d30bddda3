# frozen_string_literal: true

require_relative "shmhot/version"
require_relative "shmhot/errors"
require_relative "shmhot/native"
require_relative "shmhot/handle"
require_relative "shmhot/hotpath_ring"
require_relative "shmhot/vmclock"
require_relative "shmhot/utilization"
require_relative "shmhot/circ_buff"
require_relative "shmhot/circ_mirror"
