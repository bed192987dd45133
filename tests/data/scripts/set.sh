set -- x 'y z'
llama-quantize "$@" $1 ${2} Q4_0
