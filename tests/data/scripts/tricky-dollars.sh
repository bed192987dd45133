llama-quantize 'a$b' "weight$=q8" "x$" $ "$(echo 'a$')" "cost: 5$," Q4_0
