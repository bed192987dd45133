llama-quantize --tensor-type 'blk\.0=q8_0' --tensor-type "blk\.1\$=q8_0" --tensor-type blk\\.2=q8_0 --override-kv "general.name=str:it's \"a\" \`b\` \x" $'a\tb\'c' a""b'' "" in\ put.gguf o.gguf Q4_0
