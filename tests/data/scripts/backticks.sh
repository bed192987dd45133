c=`echo a | tr a b`
llama-quantize "`echo \`echo x\``" $c Q4_0
