llama-quantize "$(printf 'a%sb%%\n' 1 2)" "$(printf x)" "$(echo -n y; echo -e 'z\tz')" Q4_0
